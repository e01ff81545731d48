import pytest

from examples.flaky import Answered, AttemptFailed, Call, flaky

pytestmark = pytest.mark.anyio


async def test_two_failures_are_retried_and_the_third_attempt_succeeds() -> None:
    handler = flaky.run()

    assert [event async for event in handler.stream_events()] == [
        AttemptFailed(attempt=1, error="the service is down"),
        AttemptFailed(attempt=2, error="the service is down"),
        Answered(attempts=3, last_error="the service is down"),
    ]


async def test_without_a_failure_one_attempt_is_enough() -> None:
    assert await flaky.run(start_event=Call(failures=0)) == Answered(attempts=1, last_error=None)


async def test_three_failures_fail_the_run() -> None:
    with pytest.raises(ConnectionError, match=r"^the service is down$"):
        await flaky.run(start_event=Call(failures=3))
