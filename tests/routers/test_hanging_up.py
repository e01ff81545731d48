"""A client that hangs up in the middle of its request is no error of ours."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from workflow_server.app.server import WorkflowServer

Message = MutableMapping[str, Any]


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

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
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
    async with server.contextmanager():
        await server.app(scope, receive, send)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert sent[0]["status"] == 400
