"""Checks of users' classes that raise what pydantic does not take for a refusal."""

from typing import Any

import httpx
from pydantic import BaseModel, field_validator
from workflows import Context, Workflow, step
from workflows.context.serializers import JsonSerializer
from workflows.context.state_store import create_in_memory_payload
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

from tests.support.calls import run, start
from tests.support.live import open_client, serve_workflow
from tests.support.problems import problem_of
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import Batch, HandlerKey, StateRecord
from workflow_server.stores.memory import MemoryStore


class Initial(BaseModel):
    """A model of texts, the first letter of which must be there."""

    text: str = "a"

    @field_validator("text")
    @classmethod
    def check(cls, text: str) -> str:
        return text[0] + text[1:]


class Begun(Initial, StartEvent):
    pass


class Sent(Initial, HumanResponseEvent):
    pass


class Letters(Workflow):
    @step
    async def begin(self, ctx: Context[Initial], ev: Begun) -> StopEvent | None:
        return StopEvent() if ev.text == "end" else None

    @step
    async def end(self, ev: Sent) -> StopEvent:
        return StopEvent(result=ev.text)


REFUSED = create_in_memory_payload(Initial.model_construct(text=""), JsonSerializer())


def make_letters() -> Letters:
    return Letters(timeout=None)


async def start_with(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    """Ask for a run, to be refused."""
    response = await client.post("/workflows/it/run-nowait", json=body)
    assert (await client.get("/handlers")).json()["handlers"] == []
    return response


async def test_a_start_event_is_refused() -> None:
    async with serve_workflow(make_letters()) as client:
        response = await start_with(client, start_event={"text": ""})
    assert problem_of(response) == (400, "invalid_start_event")


async def test_an_event_is_refused_and_leaves_its_run_unharmed() -> None:
    async with serve_workflow(make_letters()) as client:
        handler_id = await start(client, "it")
        event = {"type": "Sent", "value": {"text": ""}}
        response = await client.post(f"/events/{handler_id}", json={"event": event})
        assert problem_of(response) == (400, "invalid_event")
        assert (await client.get(f"/handlers/{handler_id}")).json()["status"] == "running"


async def test_a_context_is_refused() -> None:
    context = Context(make_letters()).to_dict()
    async with serve_workflow(make_letters()) as client:
        response = await start_with(client, context={**context, "state": REFUSED.model_dump()})
    assert problem_of(response) == (400, "invalid_context")


async def test_a_handler_whose_last_state_an_older_release_wrote_does_not_run_again() -> None:
    store, written = MemoryStore(), REFUSED.model_dump_json().encode()
    server = WorkflowServer(workflow_store=store)
    server.add_workflow("it", make_letters())
    async with open_client(server) as client:
        ended = await run(client, "it", text="end")
        key = HandlerKey("", ended["handler_id"])
        record = await store.get_handler(key)
        assert record is not None
        state = StateRecord(record.run_id, written, 0, replaces_changes=False)
        await store.commit(Batch(runs={record.run_id: record}, states={record.run_id: state}))
        response = await client.post("/workflows/it/run-nowait", json={"handler_id": key.id})
    assert problem_of(response) == (409, "state_not_restorable")
