"""A client that hangs up in the middle of its request is no error of ours, and keeps nothing."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest

from tests.support.calls import start_asker
from tests.support.live import open_client
from tests.support.sockets import connect
from tests.support.streams import shared_reader
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits

Message = MutableMapping[str, Any]


def make_scope(method: str, path: str) -> Message:
    """Return the scope of a request with a body of a hundred bytes."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-length", b"100")],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


@pytest.mark.parametrize(
    "path", ["/workflows/echo/run", "/workflows/echo/run-nowait", "/events/unknown"]
)
async def test_who_hangs_up_in_its_body_leaves_no_error_in_the_log(
    server: WorkflowServer, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    arriving: list[Message] = [
        {"type": "http.request", "body": b'{"start', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return arriving.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async with server.contextmanager():
        await server.app(make_scope("POST", path), receive, send)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert sent[0]["status"] == 400


async def test_who_hangs_up_before_the_head_of_a_stream_is_sent_does_not_hold_the_position(
    server: WorkflowServer, client: httpx.AsyncClient
) -> None:
    handler_id = await start_asker(client)
    sending = asyncio.Event()

    async def receive() -> Message:
        await sending.wait()
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        sending.set()
        await asyncio.Event().wait()

    await server.app(make_scope("GET", f"/events/{handler_id}"), receive, send)
    async with shared_reader(client, handler_id) as frames:
        assert (await anext(frames)).type == "Question"


async def test_who_hangs_up_while_waiting_for_the_position_waits_no_more() -> None:
    server = WorkflowServer(limits=Limits(max_streams=2))
    add_all(server)
    async with open_client(server) as client:
        handler_id = await start_asker(client)
        async with shared_reader(client, handler_id):
            async with connect(client) as waiting:
                path = f"/events/{handler_id}?acquire_timeout=3600"
                await waiting.send(f"GET {path} HTTP/1.1", "Host: localhost")
                await until(lambda: is_full(client, handler_id))

            async def has_room() -> bool:
                return not await is_full(client, handler_id)

            await until(has_room)


async def is_full(client: httpx.AsyncClient, handler_id: str) -> bool:
    """Return whether as many streams are open as may be."""
    response = await client.head(f"/events/{handler_id}", params={"after_sequence": -1})
    return response.status_code == 429
