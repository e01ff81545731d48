"""`GET /handlers/{id}/steps/{sequence}/state`: the state after a step, and what that changed."""

import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, SecretStr
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent

from tests.durability.restarts import restarting
from tests.routers.test_steps import Broken, get_steps
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import run, send, start, wait_ended, wait_phase, wait_question
from tests.support.credentials import KeyBook, bearer
from tests.support.live import open_client, serve_workflow
from tests.support.patches import apply_patch
from tests.support.workflows import Question
from workflow_server.app.access import Scope
from workflow_server.app.server import WorkflowServer

Json = dict[str, Any]


class Next(Event):
    number: int


class Writing(Workflow):
    """Writes to its state in each of three steps, and waits before the last of them."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Next:
        await ctx.store.set("numbers", [1])
        await ctx.store.set("size", ev.get("size", 0))
        await ctx.store.set("text", "x" * ev.get("size", 0))
        return Next(number=2)

    @step
    async def ask(self, ctx: Context, ev: Next) -> HumanResponseEvent:
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=Question(prompt="?"))
        async with ctx.store.edit_state() as state:
            state["numbers"] = [*state["numbers"], ev.number]
            state["a/b~c"] = {"here": True}
        return HumanResponseEvent()

    @step
    async def end(self, ctx: Context, ev: HumanResponseEvent) -> StopEvent:
        await ctx.store.set("numbers", [0, 1, 2])
        await ctx.store.set("a/b~c.here", False)
        return StopEvent()


async def get_states(client: httpx.AsyncClient, handler_id: str, **query: Any) -> list[Json]:
    """Return what each step of a run has left of its state."""
    states: list[Json] = []
    for attempt in (await get_steps(client, handler_id, **query))["steps"]:
        path = f"/handlers/{handler_id}/steps/{attempt['sequence']}/state"
        response = await client.get(path, params=query)
        assert response.status_code == 200, response.text
        states.append(response.json())
    return states


def check_changes(states: list[Json], *, before: Json) -> None:
    """Assert that each state is what its changes make of the one before."""
    for found in states:
        assert found["left_out"] is None
        before = apply_patch(before, found["changes"])
        assert before == found["state"]


# A small state is written whole each time, of a larger one what has changed.
@pytest.mark.parametrize("size", [0, 20_000])
@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_the_state_after_each_step_is_shown_and_what_the_step_changed(
    kind: str, size: int, tmp_path: Path
) -> None:
    async with (
        FRESH_URLS[kind](tmp_path) as url,
        opened_store(url) as store,
        restarting(store, it=Writing(timeout=None)) as restarts,
    ):
        handler_id = await start(restarts.client, "it", size=size)
        await wait_question(restarts.client, handler_id, "?")
        waiting = await get_states(restarts.client, handler_id)
        await restarts.restart()
        again = await get_states(restarts.client, handler_id)
        await send(restarts.client, handler_id, "HumanResponseEvent", {})
        await wait_ended(restarts.client, handler_id)
        ended = await get_states(restarts.client, handler_id)
        steps = (await get_steps(restarts.client, handler_id))["steps"]
        await restarts.restart()
        stored = await get_states(restarts.client, handler_id)
    text = "x" * size
    begun = {"numbers": [1], "size": size, "text": text}
    asked = {"numbers": [1, 2], "size": size, "text": text, "a/b~c": {"here": True}}
    last = {**asked, "numbers": [0, 1, 2], "a/b~c": {"here": False}}
    assert [found["state"] for found in ended] == [begun, begun, asked, last]
    check_changes(ended, before={})
    assert ended[1]["changes"] == []
    assert "text" not in str(ended[2]["changes"])
    assert waiting == again == ended[: len(waiting)]
    assert stored == ended
    assert [found["changed_state"] for found in steps] == [True, False, True, True]


async def test_a_run_that_goes_on_from_another_begins_with_its_state() -> None:
    async with serve_workflow(Writing(timeout=None)) as client:
        handler_id = "h"
        for _ in range(2):
            await start(client, "it", handler_id, size=7)
            await wait_question(client, handler_id, "?")
            await send(client, handler_id, "HumanResponseEvent", {})
            await wait_ended(client, handler_id)
        first, *_ = await get_states(client, handler_id)
    left = {"numbers": [0, 1, 2], "size": 7, "text": "x" * 7, "a/b~c": {"here": False}}
    assert first["state"] == {**left, "numbers": [1]}
    check_changes([first], before=left)


class Secretive(BaseModel):
    """A state with a secret."""

    password: SecretStr = SecretStr("Xyzzy-0")
    held: Any = None


class Hiding(Workflow):
    """Changes a secret in its state, as a field of it and in a field of any type."""

    @step
    async def begin(self, ctx: Context[Secretive], ev: StartEvent) -> Next:
        await ctx.store.set("password", SecretStr("Xyzzy-1" + "x" * ev.get("size", 0)))
        await ctx.store.set("held", {"deep": [SecretStr("Xyzzy-2")]})
        return Next(number=1)

    @step
    async def end(self, ctx: Context[Secretive], ev: Next) -> StopEvent:
        await ctx.store.set("password", SecretStr("Xyzzy-3"))
        await ctx.store.set("held", {"deep": [SecretStr("Xyzzy-4"), 1]})
        return StopEvent()


@pytest.mark.parametrize("size", [0, 20_000])
async def test_secrets_in_a_state_are_masked(size: int) -> None:
    async with serve_workflow(Hiding()) as client:
        handler_id = (await run(client, "it", size=size))["handler_id"]
        states = await get_states(client, handler_id)
    assert "Xyzzy" not in str(states)
    assert states[1]["state"] == {"password": "**********", "held": {"deep": ["**********", 1]}}
    check_changes(states, before={})


class Untold:
    """A value that is none of JSON."""


class Growing(Workflow):
    """Fills its state up, and empties it again."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Next:
        await ctx.store.set("text", "x" * (2 << 20))
        return Next(number=1)

    @step
    async def go_on(self, ctx: Context, ev: Next) -> Next | StopEvent:
        await ctx.store.set("number", ev.number)
        if ev.number == 2:
            await ctx.store.set("text", "")
        return Next(number=ev.number + 1) if ev.number < 3 else StopEvent()


async def test_a_state_that_is_too_large_is_left_out_until_it_is_small_again() -> None:
    async with serve_workflow(Growing()) as client:
        handler_id = (await run(client, "it"))["handler_id"]
        states = await get_states(client, handler_id)
    assert [found["state"] for found in states] == [
        None,
        None,
        {"text": "", "number": 2},
        {"text": "", "number": 3},
    ]
    assert [found["left_out"] is None for found in states] == [False, False, True, True]
    assert states[2]["changes"] is None
    assert states[3]["changes"] == [{"op": "replace", "path": "/number", "value": 3}]


class Unstorable(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.store.set("held", Untold())
        return StopEvent()


async def test_a_state_that_cannot_be_stored_is_left_out() -> None:
    async with serve_workflow(Unstorable()) as client:
        handler_id = (await run(client, "it"))["handler_id"]
        (found,) = await get_states(client, handler_id)
    assert (found["state"], found["changes"]) == (None, None)
    assert "could not be stored" in found["left_out"]


class Long(Workflow):
    """Writes a state once, and then goes on for long with what cannot be compressed."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Next:
        await ctx.store.set("kept", "y" * 10_000)
        return Next(number=0)

    @step
    async def go_on(self, ctx: Context, ev: Next) -> Next | StopEvent:
        ctx.write_event_to_stream(Event(noise=secrets.token_hex(10)))
        await ctx.store.set("number", ev.number)
        await ctx.store.set("noise", secrets.token_hex(10_000))
        return Next(number=ev.number + 1) if ev.number < 500 else StopEvent()


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_of_a_long_run_the_states_of_the_last_steps_are_kept(
    kind: str, tmp_path: Path
) -> None:
    async with (
        FRESH_URLS[kind](tmp_path) as url,
        opened_store(url) as store,
        restarting(store, it=Long(timeout=None)) as restarts,
    ):
        handler_id = (await run(restarts.client, "it"))["handler_id"]
        page = await get_steps(restarts.client, handler_id)
        sequences = [step["sequence"] for step in page["steps"]]
        half = sequences[len(sequences) // 2 :: 50]
        paths = [f"/handlers/{handler_id}/steps/{sequence}/state" for sequence in half]
        found = [(await restarts.client.get(path)).json() for path in paths]
        gone = await restarts.client.get(f"/handlers/{handler_id}/steps/4/state")
    assert page["dropped"] is True
    assert {state["state"]["kept"] for state in found} == {"y" * 10_000}
    assert [state["state"]["number"] for state in found] == sorted(
        state["state"]["number"] for state in found
    )
    assert (gone.status_code, gone.json()["code"]) == (404, "step_not_found")


async def test_a_tick_that_is_no_step_or_that_never_was_is_not_found() -> None:
    async with serve_workflow(Writing(timeout=None)) as client:
        handler_id = await start(client, "it")
        await wait_phase(client, handler_id, "waiting")
        answers = [
            await client.get(f"/handlers/{handler_id}/steps/{sequence}/state")
            for sequence in ("0", "1000", "-1", "x", str(1 << 64))
        ]
        nobody = await client.get("/handlers/nobody/steps/1/state")
    assert [answer.status_code for answer in answers] == [404, 404, 400, 400, 400]
    assert answers[0].json()["code"] == "step_not_found"
    assert nobody.json()["code"] == "handler_not_found"


async def test_without_a_history_there_are_no_states() -> None:
    server = WorkflowServer(keep_history=False)
    server.add_workflow("it", Broken())
    async with open_client(server) as client:
        handler_id = (await run(client, "it"))["handler_id"]
        refused = await client.get(f"/handlers/{handler_id}/steps/1/state")
    assert (refused.status_code, refused.json()["code"]) == (409, "history_not_kept")


async def test_steps_and_states_are_the_tenant_s(tmp_path: Path) -> None:
    book = KeyBook(tmp_path / "keys.json")
    mine, theirs = (book.add(name, Scope.ADMIN, tenant=name) for name in ("a", "b"))
    server = WorkflowServer(access=book.open_access())
    server.add_workflow("it", Broken())
    async with open_client(server) as client:
        client.headers.update(bearer(mine))
        handler_id = (await run(client, "it"))["handler_id"]
        (attempt,) = (await get_steps(client, handler_id))["steps"]
        paths = [
            f"/handlers/{handler_id}/steps",
            f"/handlers/{handler_id}/steps/{attempt['sequence']}/state",
        ]
        of_owner = [(await client.get(path)).status_code for path in paths]
        client.headers.update(bearer(theirs))
        of_other = [(await client.get(path)).json()["code"] for path in paths]
    assert of_owner == [200, 200]
    assert of_other == ["handler_not_found"] * 2
