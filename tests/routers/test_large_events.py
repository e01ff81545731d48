"""Large events are written beside the event loop, while their run goes on."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.handlers.test_registry import make_lifecycle
from tests.support.calls import answer, send, start_asker, wait_ended
from tests.support.waiting import DEADLINE, until
from workflow_server.app.engine import run_input
from workflow_server.app.engine.prepared import PreparedEvent, prepare_event
from workflow_server.app.errors import HandlerNotFound
from workflow_server.app.handlers import registry as registries
from workflow_server.schemas.handlers import RunRequest
from workflow_server.schemas.records import HandlerKey

LARGE = ["x"] * 10_000


class Gate:
    """A thread that writes an event stands here until the gate is open."""

    def __init__(self) -> None:
        self.standing = 0
        self._is_open = threading.Event()

    def prepare(self, *args: Any) -> PreparedEvent:
        self.standing += 1
        self._is_open.wait(DEADLINE)
        return prepare_event(*args)

    async def wait_standing(self) -> None:
        """Return once a thread stands here."""

        async def stands() -> bool:
            return self.standing > 0

        await until(stands)

    def open(self) -> None:
        """Let all pass."""
        self._is_open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Hold up all large events."""
    gate = Gate()
    monkeypatch.setattr(registries, "prepare_event", gate.prepare)
    monkeypatch.setattr(run_input, "prepare_event", gate.prepare)
    yield gate
    gate.open()


async def test_a_small_event_overtakes_a_large_one_that_is_not_acknowledged(
    client: httpx.AsyncClient, gate: Gate
) -> None:
    handler_id = await start_asker(client)
    large = asyncio.create_task(
        send(client, handler_id, "Answer", {"text": "large", "more": LARGE})
    )
    await gate.wait_standing()
    assert (await answer(client, handler_id, "small")).status_code == 200
    gate.open()
    assert (await large).status_code in (200, 409)
    assert "small" in str((await wait_ended(client, handler_id))["result"])


async def test_an_event_for_a_run_that_ends_while_it_is_written_is_a_conflict(
    client: httpx.AsyncClient, gate: Gate
) -> None:
    handler_id = await start_asker(client)
    large = asyncio.create_task(
        send(client, handler_id, "Answer", {"text": "large", "more": LARGE})
    )
    await gate.wait_standing()
    assert (await client.post(f"/handlers/{handler_id}/cancel")).status_code == 200
    gate.open()
    assert (await large).status_code == 409


async def test_a_start_that_is_cancelled_while_it_is_written_leaves_nothing_behind(
    gate: Gate,
) -> None:
    lifecycle, catalog = make_lifecycle()
    await lifecycle.start()
    greeter, registry = catalog.find("greeter"), lifecycle.registry
    request = RunRequest(start_event={"name": "Ada", "more": LARGE}, handler_id="h")
    request.note_size(50_000)
    starting = asyncio.create_task(registry.start_run(greeter, request, tenant=""))
    await gate.wait_standing()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    gate.open()
    with pytest.raises(HandlerNotFound):
        await registry.get(HandlerKey("", "h"))
    live = await registry.start_run(greeter, request, tenant="")
    assert (await live.wait_ended()).status == "completed"
    await lifecycle.stop()
