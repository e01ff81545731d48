"""Sequences count on through a handler's runs: a number never means two events of a handler."""

import asyncio

import httpx
import pytest

from tests.support.calls import (
    answer,
    get_status,
    result_of,
    start,
    start_asker,
    wait_begun,
    wait_ended,
    wait_question,
)
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.streams import (
    Frame,
    iterate_frames,
    read_frames,
    read_until,
    shared_reader,
)
from tests.support.workflows import Asker, Sleeper
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits

STYLES = [("asker", "1"), ("waiter", "first")]  # and the prompt of each workflow's first question
styles = pytest.mark.parametrize(("workflow", "prompt"), STYLES)


async def count_to(client: httpx.AsyncClient, count: int) -> str:
    """Let the handler `h` write so many numbers, and return the id of the run."""
    await start(client, "counter", "h", count=count)
    run_id: str = (await wait_ended(client, "h"))["run_id"]
    return run_id


async def read_whole(client: httpx.AsyncClient, **query: str | int) -> list[Frame]:
    """Return all events of a run of the handler `h`, the internal ones too."""
    return await read_frames(client, "h", include_internal=True, **query)


def numbers_of(frames: list[Frame]) -> list[int]:
    """Return the sequences of events."""
    return [frame.sequence for frame in frames]


async def test_each_run_counts_on_where_the_one_before_has_ended(client: httpx.AsyncClient) -> None:
    runs = [await read_whole(client, run_id=await count_to(client, count)) for count in (3, 1, 2)]
    numbers = [number for run in runs for number in numbers_of(run)]
    assert numbers == [*range(len(numbers))]
    assert [run[-1].type for run in runs] == ["StopEvent"] * 3


async def test_a_run_counts_on_after_one_that_failed_or_was_cancelled(
    client: httpx.AsyncClient,
) -> None:
    await start(client, "failer", "failed")
    await start(client, "sleeper", "cancelled")
    await wait_begun(client, "cancelled")
    await client.post("/handlers/cancelled/cancel")
    for handler_id, workflow in (("failed", "failer"), ("cancelled", "sleeper")):
        await wait_ended(client, handler_id)
        before = await read_frames(client, handler_id, include_internal=True)
        await start(client, workflow, handler_id)
        [after] = await read_until(client, handler_id, lambda _: True, include_internal=True)
        assert after.sequence == before[-1].sequence + 1


@styles
async def test_a_second_click_on_the_question_of_an_earlier_run_answers_nothing(
    client: httpx.AsyncClient, workflow: str, prompt: str
) -> None:
    """It approved a payment."""
    handler_id = await start_asker(client, workflow)
    question = await wait_question(client, handler_id, prompt)
    await answer(client, handler_id, "yes", reply_to=question)
    await answer(client, handler_id, "yes")
    await wait_ended(client, handler_id)
    await start_asker(client, workflow, handler_id=handler_id)
    second_click = await answer(client, handler_id, "yes", reply_to=question)
    assert problem_of(second_click) == (409, "question_not_open")
    [open_now] = (await client.get(f"/handlers/{handler_id}")).json()["questions"]
    assert open_now["sequence"] > question
    taken = await answer(client, handler_id, "no", reply_to=open_now["sequence"])
    assert taken.json() == {"status": "sent"}


@pytest.mark.parametrize("lost_at", [0, 1, "last"])
async def test_a_reader_that_reconnects_in_the_next_run_gets_all_of_it(
    client: httpx.AsyncClient, lost_at: int | str
) -> None:
    await count_to(client, 30)
    first = await read_whole(client)
    await count_to(client, 1)
    second = await read_whole(client)
    seen = first[-1].sequence if lost_at == "last" else lost_at
    headers = {"Last-Event-ID": str(seen)}
    query = {"include_internal": True}
    async with client.stream("GET", "/events/h", headers=headers, params=query) as response:
        assert [frame async for frame in iterate_frames(response)] == second


async def test_a_reader_that_reconnects_is_shown_what_a_run_in_progress_has_written(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client)
    await answer(client, handler_id, "yes")
    await wait_ended(client, handler_id)
    last = (await read_frames(client, handler_id))[-1].sequence
    await start_asker(client, handler_id=handler_id)
    for cursor in (-1, 0, last):
        seen = await read_until(
            client, handler_id, lambda frame: frame.type == "Question", after_sequence=cursor
        )
        assert [frame.type for frame in seen] == ["Question"]


async def test_a_cursor_inside_the_present_run_goes_on_there(client: httpx.AsyncClient) -> None:
    await count_to(client, 3)
    await count_to(client, 3)
    second = await read_whole(client)
    assert await read_whole(client, after_sequence=second[1].sequence) == second[2:]


async def test_a_run_that_has_ended_and_was_read_is_204(client: httpx.AsyncClient) -> None:
    first, second = await count_to(client, 1), await count_to(client, 1)
    last = (await read_whole(client))[-1].sequence
    for run_id in (first, second):
        response = await client.get("/events/h", params={"after_sequence": last, "run_id": run_id})
        assert response.status_code == 204
        response = await client.get("/events/h", params={"after_sequence": "now", "run_id": run_id})
        assert response.status_code == 204


async def test_a_stream_ends_with_its_run_though_the_handler_runs_again(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client)
    async with shared_reader(client, handler_id) as reader:
        await answer(client, handler_id, "yes")
        await wait_ended(client, handler_id)
        await start_asker(client, handler_id=handler_id)
        seen = [frame async for frame in reader]
    assert [frame.type for frame in seen] == ["Question", "StopEvent"]


async def test_a_purged_handler_begins_at_0_again(client: httpx.AsyncClient) -> None:
    await count_to(client, 3)
    await client.post("/handlers/h/cancel", params={"purge": True})
    await count_to(client, 1)
    assert numbers_of(await read_whole(client))[0] == 0


async def test_a_queued_run_has_no_events_and_counts_on_when_it_begins() -> None:
    server = WorkflowServer(limits=Limits(max_runs=1))
    server.add_workflow("asker", Asker(timeout=None))
    server.add_workflow("sleeper", Sleeper(timeout=None))
    async with open_client(server) as client:
        handler_id = await start_asker(client)
        question = await wait_question(client, handler_id, "1")
        await answer(client, handler_id, "yes")
        await wait_ended(client, handler_id)
        before = await read_frames(client, handler_id, include_internal=True)
        await start(client, "sleeper", "first")
        await start(client, "asker", handler_id)
        late = await answer(client, handler_id, "yes", reply_to=question)
        assert problem_of(late) == (409, "question_not_open")
        query = {"after_sequence": 0, "include_internal": True}
        async with client.stream("GET", f"/events/{handler_id}", params=query) as response:
            sent = await answer(client, handler_id, "early")
            assert sent.status_code == 200
            await client.post("/handlers/first/cancel")
            frames = [frame async for frame in iterate_frames(response)]
        assert numbers_of(before + frames) == [*range(len(before) + len(frames))]
        assert await result_of(client, handler_id) == ["yes", "early"]


# The run that an event is for.


async def test_an_event_for_the_present_run_is_taken(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    run_id = (await client.get(f"/handlers/{handler_id}")).json()["run_id"]
    sent = await answer(client, handler_id, "yes", run_id=run_id)
    assert sent.json() == {"status": "sent"}


@pytest.mark.parametrize("reply_to", [None, 0])
async def test_an_event_for_an_earlier_run_is_a_conflict_and_reaches_none(
    client: httpx.AsyncClient, reply_to: int | None
) -> None:
    handler_id = await start_asker(client)
    earlier = (await client.get(f"/handlers/{handler_id}")).json()["run_id"]
    await answer(client, handler_id, "yes")
    await wait_ended(client, handler_id)
    ended = await answer(client, handler_id, "no", run_id=earlier)
    assert problem_of(ended) == (409, "handler_ended")
    await start_asker(client, handler_id=handler_id)
    late = await answer(client, handler_id, "no", run_id=earlier, reply_to=reply_to)
    assert problem_of(late) == (409, "run_not_current")
    assert await get_status(client, handler_id) == "running"
    await answer(client, handler_id, "last")
    assert await result_of(client, handler_id) == ["yes", "last"]


async def test_an_event_for_a_run_of_another_handler_is_a_conflict(
    client: httpx.AsyncClient,
) -> None:
    one, other = await asyncio.gather(start_asker(client), start_asker(client))
    run_id = (await client.get(f"/handlers/{other}")).json()["run_id"]
    sent = await answer(client, one, "yes", run_id=run_id)
    assert problem_of(sent) == (409, "run_not_current")


async def test_a_run_id_that_is_no_text_is_malformed(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    assert problem_of(await answer(client, handler_id, "yes", run_id=1)) == (
        400,
        "malformed_request",
    )
