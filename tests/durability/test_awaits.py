"""`awaits` of a handler: the same of a run in memory, of an evicted one, and after a restart."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from workflows import Workflow

from tests.durability.restarts import Restarts, restarting
from tests.support.awaiting import TOKEN, Gate, Interview, Stuck
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import result_of, send, start
from tests.support.inspection import is_evicted, key_of
from tests.support.waiting import until
from tests.support.workflows import Asker
from workflow_server.app.runs import phase
from workflow_server.schemas.records import Batch
from workflow_server.stores.base import Store

Json = dict[str, Any]

WORKFLOWS = {
    "interview": Interview,
    "gate": Gate,
    "stuck": Stuck,
    "asker": Asker,
}
HUMAN_RESPONSE: Json = {
    "type": "HumanResponseEvent",
    "qualified_name": "workflows.events.HumanResponseEvent",
    "requirements": {},
    "steps": ["one"],
    "question": None,
    "due_at": None,
}
PERMIT = {
    "type": "Permit",
    "qualified_name": "tests.support.awaiting.Permit",
    "requirements": {"user": "ada", "token": "**********", "long": "**********"},
    "steps": ["ask"],
    "waiter_id": "permit",
}
PERMIT_SCHEMA = {
    "title": "Permit",
    "description": "A decision.",
    "type": "object",
    "properties": {
        "granted": {"title": "Granted", "type": "boolean"},
        "user": {"default": "", "title": "User", "type": "string"},
    },
    "required": ["granted"],
}


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


@pytest.fixture(params=["in memory", "evicted", "restarted"])
async def moments(request: pytest.FixtureRequest, store: Store) -> AsyncIterator["Moments"]:
    """Yield a server whose runs are looked at in one of these moments."""
    options = {"idle_timeout": 3600.0 if request.param == "in memory" else 0.0}
    workflows: dict[str, Workflow] = {name: make(timeout=None) for name, make in WORKFLOWS.items()}
    async with restarting(store, options=options, **workflows) as restarts:
        yield Moments(restarts, request.param)


class Moments:
    """A server, and the moment in which its waiting runs are looked at."""

    def __init__(self, restarts: Restarts, moment: str) -> None:
        self.restarts = restarts
        self.moment = moment

    async def start(self, workflow: str) -> str:
        """Start a run, and return its handler's id when it waits, in this moment."""
        handler_id = await start(self.restarts.client, workflow)
        await self.settle(handler_id)
        return handler_id

    async def settle(self, handler_id: str) -> None:
        """Return when the run waits, in this moment."""
        await until(lambda: self.waits(handler_id))
        if self.moment != "in memory":
            await until(lambda: is_evicted(self.restarts.server, handler_id))
        if self.moment == "restarted":
            await self.restarts.restart()

    async def waits(self, handler_id: str) -> bool:
        """Return whether it is committed that the run waits."""
        record = await self.restarts.real.get_handler(key_of(handler_id))
        return record is not None and record.idle is not None

    async def get(self, handler_id: str) -> Json:
        """Return a handler."""
        handler: Json = (await self.restarts.client.get(f"/handlers/{handler_id}")).json()
        return handler


async def test_a_plain_wait_is_told_and_answers_the_question_that_was_written_before_it(
    moments: Moments,
) -> None:
    handler_id = await moments.start("interview")
    handler = await moments.get(handler_id)
    [awaited] = handler["awaits"]["events"]
    waiter_id, schema = awaited.pop("waiter_id"), awaited.pop("schema")
    assert awaited == {**HUMAN_RESPONSE, "question": handler["questions"][0]["sequence"]}
    assert list(schema["properties"]) == ["response"]
    assert schema["additionalProperties"] is True
    assert handler["awaits"] == {"events": [awaited], "timers": [], "stuck_because": None}
    [question] = handler["questions"]
    assert question["text"] == "How old are you?"
    assert question["awaits"] == [{**awaited, "waiter_id": waiter_id, "schema": schema}]


async def test_a_wait_with_requirements_and_a_timer_is_told_without_its_secrets(
    moments: Moments,
) -> None:
    handler_id = await moments.start("gate")
    handler = await moments.get(handler_id)
    [question] = handler["questions"]
    [awaited], due_at = question["awaits"], question["awaits"][0]["due_at"]
    assert awaited == {
        **PERMIT,
        "schema": PERMIT_SCHEMA,
        "question": question["sequence"],
        "due_at": due_at,
    }
    assert question["text"] == "May I?"
    assert handler["awaits"] == {
        "events": [awaited],
        "timers": [{"due_at": due_at, "kind": "wait", "waiter_id": "permit"}],
        "stuck_because": None,
    }
    record = await moments.restarts.real.get_handler(key_of(handler_id))
    assert record is not None
    assert record.due_at is not None
    assert due_at == record.due_at.isoformat()
    assert TOKEN not in repr(record)


async def test_a_run_that_a_step_takes_the_answer_of_waits_for_that(moments: Moments) -> None:
    handler_id = await moments.start("asker")
    handler = await moments.get(handler_id)
    [awaited] = handler["awaits"]["events"]
    assert (awaited["type"], awaited["steps"], awaited["waiter_id"]) == ("Answer", ["take"], None)
    assert handler["questions"] == [{"sequence": 2, "text": "1", "awaits": [awaited]}]


async def test_a_run_that_can_never_go_on_says_so_and_is_logged_once(
    moments: Moments, caplog: pytest.LogCaptureFixture
) -> None:
    handler_id = await moments.start("stuck")
    awaits = (await moments.get(handler_id))["awaits"]
    assert (awaits["events"], awaits["timers"]) == ([], [])
    assert awaits["stuck_because"].startswith("The run can never go on")
    sent = await send(moments.restarts.client, handler_id, "StopEvent", {})  # which no step takes
    assert sent.status_code == 200, sent.text
    await moments.settle(handler_id)
    assert (await moments.get(handler_id))["awaits"] == awaits
    assert [record.getMessage() for record in caplog.records].count("run can never go on") == 1


async def test_lists_of_handlers_leave_out_the_schemas(moments: Moments) -> None:
    handler_id = await moments.start("gate")
    handler = await moments.get(handler_id)
    listed = (await moments.restarts.client.get("/handlers")).json()["handlers"][0]
    for awaited in (*handler["awaits"]["events"], *handler["questions"][0]["awaits"]):
        assert awaited["schema"] == PERMIT_SCHEMA
        awaited["schema"] = None
    del handler["start_event"]
    assert listed == handler


async def test_an_event_between_steps_does_not_answer_and_the_awaited_one_does(
    moments: Moments,
) -> None:
    handler_id = await moments.start("interview")
    client = moments.restarts.client
    [question] = (await moments.get(handler_id))["questions"]
    reply = {"reply_to": question["sequence"]}
    refused = await send(client, handler_id, "First", {"answer": "ten"}, **reply)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_event")
    assert "HumanResponseEvent" in refused.json()["detail"]
    assert (await moments.get(handler_id))["questions"] == [question]
    taken = await send(client, handler_id, "HumanResponseEvent", {"response": "nine"}, **reply)
    assert taken.status_code == 200, taken.text
    await until(lambda: asks(moments, handler_id, "Which food?"))
    client = moments.restarts.client
    await send(client, handler_id, "HumanResponseEvent", {"response": "figs"})
    assert await result_of(client, handler_id) == ["nine", "figs"]


async def asks(moments: Moments, handler_id: str, text: str) -> bool:
    """Return whether a run asks a question."""
    handler = await moments.get(handler_id)
    waits = handler["phase"] == "waiting"
    return waits and text in [question["text"] for question in handler["questions"]]


async def test_a_run_that_was_cut_off_before_it_said_that_it_waits_says_so_when_it_goes_on(
    store: Store,
) -> None:
    async with restarting(store, gate=Gate(timeout=None)) as restarts:
        moments = Moments(restarts, "in memory")
        handler_id = await moments.start("gate")
        awaits = (await moments.get(handler_id))["awaits"]
        await restarts.crash()
        record = await store.get_handler(key_of(handler_id))
        assert record is not None
        await store.commit(Batch(runs={record.run_id: phase.work(record)}))
        await restarts.start()
        await moments.settle(handler_id)
        again = (await moments.get(handler_id))["awaits"]
        # The time is that of the tick, a moment before that of the engine's own timer.
        assert abs(take_due(again) - take_due(awaits)) < timedelta(seconds=30)
        assert again == awaits


def take_due(awaits: Json) -> datetime:
    """Take the one time at which a wait is due out of what a run waits for, and return it."""
    [event], [timer] = awaits["events"], awaits["timers"]
    due_at: str = event.pop("due_at")
    assert timer.pop("due_at") == due_at
    return datetime.fromisoformat(due_at)
