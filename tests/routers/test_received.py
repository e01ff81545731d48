"""An event from outside is an internal event of the stream: what it was, from whom, and when."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import answer, send, start, wait_ended, wait_phase, wait_question
from tests.support.credentials import KeyBook, bearer
from tests.support.live import open_client, serve_workflow
from tests.support.streams import Frame, read_frames
from tests.support.workflows import Asker
from workflow_server.app.access import Scope
from workflow_server.app.server import WorkflowServer

RECEIVED = "EventReceivedEvent"


class Password(HumanResponseEvent):
    user: str
    password: SecretStr


class Login(Workflow):
    """Asks for a password, and tells how long it is."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        given = await ctx.wait_for_event(Password, waiter_event=InputRequiredEvent())
        return StopEvent(result=len(given.password.get_secret_value()))


def received_of(frames: list[Frame]) -> list[dict[str, Any]]:
    """Return what the stream tells of events from outside, without when they were sent."""
    told = [frame.value for frame in frames if frame.type == RECEIVED]
    return [{key: value for key, value in fields.items() if key != "sent_at"} for fields in told]


def make_received(text: str, **fields: Any) -> dict[str, Any]:
    """Return what is told of an `Answer`."""
    envelope = {
        "value": {"text": text},
        "type": "Answer",
        "types": ["HumanResponseEvent"],
        "qualified_name": "tests.support.workflows.Answer",
    }
    return {"event": envelope, "step": None, "reply_to": None, "sent_by": None, **fields}


async def test_an_answer_is_told_with_its_question_and_its_time() -> None:
    before = datetime.now(UTC)
    async with serve_workflow(Asker(timeout=None)) as client:
        handler_id = await start(client, "it")
        question = await wait_question(client, handler_id, "1")
        await answer(client, handler_id, "yes", reply_to=question)
        await wait_ended(client, handler_id)
        frames = await read_frames(client, handler_id, include_internal=True)
        shown = await read_frames(client, handler_id)
    assert received_of(frames) == [make_received("yes", reply_to=question)]
    (told,) = [frame for frame in frames if frame.type == RECEIVED]
    assert before <= datetime.fromisoformat(told.value["sent_at"]) <= datetime.now(UTC)
    assert told.envelope["types"] == ["InternalDispatchEvent"]
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    assert RECEIVED not in [frame.type for frame in shown]


async def test_the_credential_that_sent_an_event_is_named(tmp_path: Path) -> None:
    book = KeyBook(tmp_path / "keys.json")
    key = book.add("ada", Scope.RUN)
    server = WorkflowServer(access=book.open_access())
    server.add_workflow("it", Asker(timeout=None))
    async with open_client(server) as client:
        client.headers.update(bearer(key))
        handler_id = await start(client, "it")
        await wait_question(client, handler_id, "1")
        await answer(client, handler_id, "yes")
        await wait_ended(client, handler_id)
        frames = await read_frames(client, handler_id, include_internal=True)
    assert received_of(frames) == [make_received("yes", sent_by="ada")]


async def test_secrets_of_an_answer_are_masked_and_reach_the_step() -> None:
    async with serve_workflow(Login(timeout=None)) as client:
        handler_id = await start(client, "it")
        await wait_phase(client, handler_id, "waiting")
        await send(client, handler_id, "Password", {"user": "ada", "password": "Xyzzy"})
        handler = await wait_ended(client, handler_id)
        frames = await read_frames(client, handler_id, include_internal=True)
    assert handler["result"]["value"]["result"] == 5
    (told,) = received_of(frames)
    assert told["event"]["value"] == {"user": "ada", "password": "**********"}


class Sleeper(Workflow):
    @step
    async def sleep(self, ev: StartEvent) -> StopEvent:
        await asyncio.Event().wait()
        return StopEvent()


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_an_event_for_a_queued_run_is_told_when_it_begins_after_a_restart(
    kind: str, tmp_path: Path
) -> None:
    async with (
        FRESH_URLS[kind](tmp_path) as url,
        opened_store(url) as store,
        restarting(
            store, options={"max_runs": 1}, busy=Sleeper(timeout=None), it=Asker(timeout=None)
        ) as restarts,
    ):
        await start(restarts.client, "busy", "busy")
        await start(restarts.client, "it", "queued")
        await wait_phase(restarts.client, "queued", "queued")
        sent: httpx.Response = await answer(restarts.client, "queued", "early")
        await restarts.restart()
        await restarts.client.post("/handlers/busy/cancel")
        await wait_ended(restarts.client, "queued")
        frames = await read_frames(restarts.client, "queued", include_internal=True)
    assert sent.json() == {"status": "sent"}
    assert received_of(frames) == [make_received("early")]
