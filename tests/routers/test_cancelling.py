"""Cancelling: true when it is said, and never taken back."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.calls import answer, get_status, run, start, start_asker, wait_begun
from tests.support.live import serve_workflow
from tests.support.problems import problem_of
from tests.support.streams import read_frames
from tests.support.waiting import until
from tests.support.workflows import Number

Begin = Callable[[httpx.AsyncClient], Awaitable[str]]


async def begin_step(client: httpx.AsyncClient) -> str:
    """Start a run, and return when its step runs."""
    handler_id = await start(client, "sleeper")
    await wait_begun(client, handler_id)
    return handler_id


async def begin_question(client: httpx.AsyncClient) -> str:
    """Start a run, and return when it has asked."""
    return await start_asker(client)


async def begin_wait(client: httpx.AsyncClient) -> str:
    """Start a run, and return when its step waits for an event."""
    return await start_asker(client, "waiter")


async def begin_retry(client: httpx.AsyncClient) -> str:
    """Start a run, and return when its step failed or is about to."""
    handler_id = await start(client, "retrier")
    await wait_begun(client, handler_id)
    return handler_id


async def begin_queue(client: httpx.AsyncClient) -> str:
    """Start a run that waits for the turn of its workflow."""
    await wait_begun(client, await start(client, "one-at-a-time", "first"))
    return await start(client, "one-at-a-time")


async def begin_nothing(client: httpx.AsyncClient) -> str:
    """Start a run, and return at once."""
    return await start(client, "sleeper")


every_moment = pytest.mark.parametrize(
    "begin", [begin_step, begin_question, begin_wait, begin_retry, begin_queue, begin_nothing]
)


@every_moment
async def test_a_run_is_cancelled_at_any_moment(client: httpx.AsyncClient, begin: Begin) -> None:
    handler_id = await begin(client)
    response = await client.post(f"/handlers/{handler_id}/cancel")
    assert (response.status_code, response.json()) == (200, {"status": "cancelled"})
    handler = await client.get(f"/handlers/{handler_id}")
    assert handler.status_code == 500
    assert handler.json()["status"] == "cancelled"
    assert handler.json()["completed_at"] is not None


@every_moment
async def test_the_stream_of_a_cancelled_run_ends_with_the_cancellation(
    client: httpx.AsyncClient, begin: Begin
) -> None:
    handler_id = await begin(client)
    await client.post(f"/handlers/{handler_id}/cancel")
    types = [frame.type for frame in await read_frames(client, handler_id)]
    assert types[-1] == "WorkflowCancelledEvent"
    assert types.count("WorkflowCancelledEvent") == 1


@every_moment
async def test_a_cancelled_run_has_neither_error_nor_result(
    client: httpx.AsyncClient, begin: Begin
) -> None:
    handler_id = await begin(client)
    await client.post(f"/handlers/{handler_id}/cancel")
    handler = (await client.get(f"/handlers/{handler_id}")).json()
    assert (handler["error"], handler["result"]) == (None, None)


async def test_whoever_waits_for_a_cancelled_run_is_answered(client: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(client.post("/workflows/sleeper/run", json={"handler_id": "h"}))

    async def accepted() -> bool:
        return (await client.get("/handlers/h")).status_code == 202

    await until(accepted)
    await client.post("/handlers/h/cancel")
    response = await waiting
    assert (response.status_code, response.json()["status"]) == (500, "cancelled")


@pytest.mark.parametrize(
    ("workflow", "how"), [("echo", "completed"), ("failer", "failed"), ("impatient", "failed")]
)
async def test_an_ended_handler_cannot_be_cancelled_and_says_how_it_ended(
    client: httpx.AsyncClient, workflow: str, how: str
) -> None:
    handler = await run(client, workflow)
    response = await client.post(f"/handlers/{handler['handler_id']}/cancel")
    assert problem_of(response) == (404, "handler_ended")
    assert how in response.json()["detail"]
    again = (await client.get(f"/handlers/{handler['handler_id']}")).json()
    assert again.items() >= handler.items()


async def test_a_cancelled_handler_cannot_be_cancelled_again(client: httpx.AsyncClient) -> None:
    handler_id = await begin_step(client)
    await client.post(f"/handlers/{handler_id}/cancel")
    response = await client.post(f"/handlers/{handler_id}/cancel")
    assert problem_of(response) == (404, "handler_ended")
    assert "cancelled" in response.json()["detail"]


@every_moment
async def test_cancelling_many_times_at_once_ends_the_run_once(
    client: httpx.AsyncClient, begin: Begin
) -> None:
    handler_id = await begin(client)
    responses = await asyncio.gather(
        *(client.post(f"/handlers/{handler_id}/cancel") for _ in range(8))
    )
    codes = {response.status_code for response in responses}
    assert 200 in codes
    assert codes <= {200, 404}
    types = [frame.type for frame in await read_frames(client, handler_id)]
    assert types.count("WorkflowCancelledEvent") == 1


async def test_a_cancel_that_races_with_completion_tells_how_the_run_really_ended(
    client: httpx.AsyncClient,
) -> None:
    seen = set()
    for _ in range(60):
        handler_id = await start_asker(client)
        cancel, _ = await asyncio.gather(
            client.post(f"/handlers/{handler_id}/cancel"), answer(client, handler_id, "yes")
        )
        status = await get_status(client, handler_id)
        frames = await read_frames(client, handler_id)
        seen.add((cancel.status_code, status, frames[-1].type, len(frames)))
    assert seen <= {
        (200, "cancelled", "WorkflowCancelledEvent", 2),
        (404, "completed", "StopEvent", 2),
    }


async def test_a_cancel_that_races_with_a_run_of_no_time_tells_how_it_really_ended(
    client: httpx.AsyncClient,
) -> None:
    seen = set()
    for _ in range(60):
        handler_id = await start(client, "echo")
        cancel = await client.post(f"/handlers/{handler_id}/cancel")
        status = await get_status(client, handler_id)
        frames = await read_frames(client, handler_id)
        seen.add((cancel.status_code, status, frames[-1].type, len(frames)))
    assert seen <= {
        (200, "cancelled", "WorkflowCancelledEvent", 1),
        (404, "completed", "StopEvent", 1),
    }


class Stubborn(Workflow):
    """Has last words when it is cancelled, and would end well."""

    @step
    async def resist(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Number(number=1))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ctx.write_event_to_stream(Number(number=2))
        return StopEvent(result="not cancelled")


async def test_a_step_that_resists_its_cancellation_does_not_take_it_back() -> None:
    async with serve_workflow(Stubborn(timeout=None)) as client:
        handler_id = await start(client, "it")
        await wait_begun(client, handler_id)
        response = await client.post(f"/handlers/{handler_id}/cancel")
        frames = await read_frames(client, handler_id)
        status = await get_status(client, handler_id)
    assert (response.status_code, status) == (200, "cancelled")
    assert frames[-1].type == "WorkflowCancelledEvent"


async def test_the_turn_of_a_cancelled_run_goes_to_the_next(client: httpx.AsyncClient) -> None:
    waiting = await begin_queue(client)
    await client.post("/handlers/first/cancel")
    await wait_begun(client, waiting)
    assert await get_status(client, waiting) == "running"


async def test_a_cancel_that_names_the_current_run_stops_it(client: httpx.AsyncClient) -> None:
    handler_id = await begin_step(client)
    run_id = (await client.get(f"/handlers/{handler_id}")).json()["run_id"]
    response = await client.post(f"/handlers/{handler_id}/cancel", params={"run_id": run_id})
    assert response.json() == {"status": "cancelled"}


@pytest.mark.parametrize("purge", [False, True])
async def test_a_cancel_that_names_another_run_is_a_conflict_and_stops_nothing(
    client: httpx.AsyncClient, purge: bool
) -> None:
    earlier = await run(client, "echo")
    handler_id = await start(client, "echo", earlier["handler_id"])
    response = await client.post(
        f"/handlers/{handler_id}/cancel",
        params={"run_id": earlier["run_id"], "purge": purge},
    )
    assert problem_of(response) == (409, "run_not_current")
    handler = (await client.get(f"/handlers/{handler_id}")).json()
    assert response.json()["detail"] == (
        f"The handler '{handler_id}' has another run by now, '{handler['run_id']}'; the"
        f" cancellation is for '{earlier['run_id']}'."
    )


async def test_an_ended_run_that_is_named_has_nothing_to_cancel(client: httpx.AsyncClient) -> None:
    ended = await run(client, "echo")
    path = f"/handlers/{ended['handler_id']}/cancel"
    response = await client.post(path, params={"run_id": ended["run_id"]})
    assert problem_of(response) == (404, "handler_ended")
