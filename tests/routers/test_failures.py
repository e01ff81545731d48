"""What a handler says of what ended its failed run: `error` and `failure`, wherever it is shown."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import run, start, wait_ended
from tests.support.live import serve_workflow


class Exhausted(Workflow):
    """Fails as often as it is tried."""

    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(3)))
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ConnectionError("the service is down")


class Later(Event):
    pass


class Silent(Workflow):
    """Fails in its second step without a word."""

    @step
    async def begin(self, ev: StartEvent) -> Later:
        return Later()

    @step
    async def fail(self, ev: Later) -> StopEvent:
        raise KeyError


class Nested(Workflow):
    """Fails because a run that a step waits for takes too long."""

    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        outcome: StopEvent = await Sleeper(timeout=0.01).run()
        return outcome


class Sleeper(Workflow):
    @step
    async def sleep(self, ev: StartEvent) -> StopEvent:
        await asyncio.Event().wait()
        return StopEvent()


class Unwritable(Workflow):
    """Ends with what JSON cannot carry."""

    @step
    async def end(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=object())


EXHAUSTED = {
    "type": "ConnectionError",
    "qualified_name": "builtins.ConnectionError",
    "message": "the service is down",
    "step": "fail",
    "attempts": 3,
    "remedy": None,
}
TIMED_OUT = {
    "type": "WorkflowTimeoutError",
    "qualified_name": "workflows.errors.WorkflowTimeoutError",
}
FAILURES: list[tuple[Workflow, dict[str, Any]]] = [
    (Exhausted(), EXHAUSTED),
    (
        Silent(),
        {"type": "KeyError", "qualified_name": "builtins.KeyError", "message": "", "step": "fail"}
        | {"attempts": 1},
    ),
    (
        Sleeper(timeout=0.01),
        TIMED_OUT | {"step": None, "attempts": None, "message": "Operation timed out after 0.01"},
    ),
    (
        Nested(timeout=None),
        TIMED_OUT | {"step": "wait", "attempts": 1, "message": "Operation timed out after 0.01"},
    ),
    (
        Unwritable(),
        {"type": "RunFailed", "step": None, "attempts": None}
        | {"message": "The result cannot be returned: "},
    ),
]


@pytest.mark.parametrize(
    ("workflow", "expected"), FAILURES, ids=[type(w).__name__ for w, _ in FAILURES]
)
async def test_the_failure_of_a_run_is_its_exception(
    workflow: Workflow, expected: dict[str, Any]
) -> None:
    async with serve_workflow(workflow) as client:
        handler = await run(client, "it")
    failure = handler["failure"]
    assert handler["error"] == failure["message"]
    assert failure["message"].startswith(expected["message"])
    assert failure == {**failure, **expected, "message": handler["error"]}


async def test_the_failure_is_the_same_wherever_the_handler_is_shown() -> None:
    async with serve_workflow(Exhausted()) as client:
        handler_id = await start(client, "it")
        shown = [await wait_ended(client, handler_id)]
        shown.append((await client.get(f"/results/{handler_id}")).json())
        shown += (await client.get("/handlers")).json()["handlers"]
        shown += (await client.get(f"/handlers/{handler_id}/runs")).json()["runs"]
    told = [(handler["error"], handler["failure"]) for handler in shown]
    assert told == [("the service is down", EXHAUSTED)] * 4


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_the_failure_is_the_same_after_a_restart(kind: str, tmp_path: Path) -> None:
    async with (
        FRESH_URLS[kind](tmp_path) as url,
        opened_store(url) as store,
        restarting(store, it=Exhausted()) as restarts,
    ):
        handler_id = (await run(restarts.client, "it"))["handler_id"]
        await restarts.restart()
        handler = (await restarts.client.get(f"/handlers/{handler_id}")).json()
    assert (handler["error"], handler["failure"]) == ("the service is down", EXHAUSTED)


async def test_a_cancelled_run_and_a_completed_one_have_no_failure() -> None:
    async with serve_workflow(Sleeper(timeout=None)) as client:
        handler_id = await start(client, "it")
        running = (await client.get(f"/handlers/{handler_id}")).json()
        await client.post(f"/handlers/{handler_id}/cancel")
        cancelled = (await client.get(f"/handlers/{handler_id}")).json()
    assert [(h["error"], h["failure"]) for h in (running, cancelled)] == [(None, None)] * 2
    assert cancelled["status"] == "cancelled"
