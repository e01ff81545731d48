"""Answers that may be large: a few at a time, and read for nobody who has hung up."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from starlette.types import Message
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.live import open_client
from tests.support.records import NOON, batch_of, make_record
from tests.support.sockets import connect
from tests.support.waiting import until
from workflow_server.app.handlers.paging import LARGE_ANSWERS, PAGES_AT_ONCE, TenantSlots
from workflow_server.app.server import WorkflowServer
from workflow_server.routers.large_answers import SMALL, WRITE_BYTES, LargeAnswer
from workflow_server.schemas.listings import HandlerQuery, ListedRuns
from workflow_server.schemas.records import Phase, RunRecord, Status
from workflow_server.stores.memory import MemoryStore

RESULT = b'{"value":{"result":"%b"},"type":"StopEvent","types":null,"qualified_name":null}' % (
    b"x" * 9_000_000
)


def make_ended(name: str, result: bytes) -> RunRecord:
    """Return a completed run."""
    ended = {"status": Status.COMPLETED, "phase": Phase.ENDED, "completed_at": NOON}
    return make_record(name, **ended, result=result)


class Slow(MemoryStore):
    """A store whose pages wait until they may be read, and that counts those that began."""

    def __init__(self) -> None:
        super().__init__()
        self.may_read = asyncio.Event()
        self.begun = self.given_up = 0

    async def list_handlers(self, query: HandlerQuery) -> ListedRuns:
        """Wait, and return a page."""
        self.begun += 1
        try:
            await self.may_read.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return await super().list_handlers(query)


async def test_a_listing_whose_client_hangs_up_is_given_up_and_none_begins_for_it() -> None:
    store = Slow()
    async with open_client(WorkflowServer(workflow_store=store)) as client:
        async with AsyncExitStack() as stack:
            for _ in range(PAGES_AT_ONCE + 3):
                reader = await stack.enter_async_context(connect(client))
                await reader.send("GET /handlers HTTP/1.0", "Host: 127.0.0.1")
            await until(lambda: store.begun == PAGES_AT_ONCE)
        await until(lambda: store.given_up == PAGES_AT_ONCE)
        store.may_read.set()
        assert (await client.get("/handlers")).status_code == 200
    assert (store.begun, store.given_up) == (PAGES_AT_ONCE + 1, PAGES_AT_ONCE)


async def test_a_client_that_takes_nothing_of_a_large_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workflow_server.routers.large_answers.STALLED", 1.0)
    store = MemoryStore()
    async with (
        open_client(WorkflowServer(workflow_store=store), own_connections=True) as client,
        AsyncExitStack() as stack,
    ):
        await store.commit(batch_of(make_ended("h", RESULT)))
        for _ in range(LARGE_ANSWERS):
            reader = await stack.enter_async_context(connect(client))
            await reader.send("GET /handlers/h HTTP/1.0", "Host: 127.0.0.1")
            await reader.read_head()
        response = await client.get("/handlers/h", timeout=60)
        assert len(response.content) > len(RESULT)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_client_that_takes_a_large_answer_too_slowly_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workflow_server.routers.large_answers.STALLED", 1.0)
    monkeypatch.setattr("workflow_server.routers.large_answers.SLOWEST", 1 << 30)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        await asyncio.sleep(0.05)  # a hundred times: each is in time, and all of them are not

    async def receive() -> Message:
        raise AssertionError("an answer asks for nothing")

    answer = LargeAnswer([b"x" * WRITE_BYTES] * 100, 200, None)
    await answer({"type": "http"}, receive, send)
    assert sent[0]["status"] == 200
    assert sent[-1]["more_body"]


class Large(Workflow):
    @step
    async def write(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="x" * SMALL)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/handlers"),
        ("GET", "/handlers/h"),
        ("GET", "/handlers/h/runs"),
        ("GET", "/handlers/h/steps"),
        ("GET", "/results/h"),
        ("POST", "/workflows/large/run"),
    ],
)
async def test_a_large_answer_waits_for_a_slot_and_gives_it_back(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = WorkflowServer()
    server.add_workflow("large", Large())
    slots, take = server.app.state.services.large_answers, TenantSlots.take
    is_waited_for = asyncio.Event()

    async def take_noted(self: TenantSlots, tenant: str) -> None:
        if self is slots:
            is_waited_for.set()
        await take(self, tenant)

    monkeypatch.setattr(TenantSlots, "take", take_noted)
    async with open_client(server) as client:
        await client.post("/workflows/large/run", json={"handler_id": "h"})
        assert [slots.take_free() for _ in range(LARGE_ANSWERS + 1)][-2:] == [True, False]
        asked = asyncio.create_task(client.request(method, path))
        await until(lambda: asked.done() or is_waited_for.is_set())
        assert not asked.done()
        slots.give_back()
        answer = await asked
        assert (answer.status_code, len(answer.content) > SMALL) == (200, True)
        await until(slots.take_free)
