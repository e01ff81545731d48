"""A step that fails and is retried.

The step calls a service that is down at first: it fails twice, is tried again after a short delay
each time, and succeeds at the third attempt. The retry policy retries lost connections only, and
gives up after the third attempt: ask for three failures to see a run fail.
"""

from pydantic import Field
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import (
    retry_if_exception_type,
    retry_policy,
    stop_after_attempt,
    wait_fixed,
)

PATIENCE = retry_policy(
    retry=retry_if_exception_type(ConnectionError),
    wait=wait_fixed(0.1),
    stop=stop_after_attempt(3),
)


class Call(StartEvent):
    """A call to a service that is down at first."""

    failures: int = Field(
        default=2,
        ge=0,
        description="How many attempts fail; from 3 on the run fails.",
        examples=[2],
    )


class AttemptFailed(Event):
    """An attempt has failed."""

    attempt: int = Field(description="The number of the attempt, from 1.", examples=[1])
    error: str = Field(description="Why it failed.", examples=["the service is down"])


class Answered(StopEvent):
    """The service has answered."""

    attempts: int = Field(description="How many attempts were needed.", examples=[3])
    last_error: str | None = Field(
        description="Why the attempt before failed, if there was one.",
        examples=["the service is down"],
    )


class Flaky(Workflow):
    """Calls a service until it answers."""

    @step(retry_policy=PATIENCE)
    async def call(self, ctx: Context, ev: Call) -> Answered:
        retry = ctx.retry_info()
        attempt = retry.retry_number + 1
        if attempt <= ev.failures:
            error = ConnectionError("the service is down")
            ctx.write_event_to_stream(AttemptFailed(attempt=attempt, error=str(error)))
            raise error
        last_error = None if retry.last_exception is None else str(retry.last_exception)
        return Answered(attempts=attempt, last_error=last_error)


flaky = Flaky()
