"""Under uvicorn alone, which loses the body of an upgrade, such a request is refused."""

import asyncio

import httpx
import pytest

from tests.support.raw_http import RawServer, parse_answers
from workflow_server.app.server import WorkflowServer

BODY = b'{"handler_id": "sent"}'
SMUGGLED = b"POST /workflows/echo/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
HEAD = [b"POST /workflows/echo/run HTTP/1.1", b"Host: localhost"]
OFFER = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"]


def post(*lines: bytes) -> bytes:
    return b"\r\n".join([*HEAD, *lines, b"", b""])


@pytest.mark.parametrize("body", [BODY, SMUGGLED], ids=["a-body", "a-request"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
async def test_a_body_that_is_lost_is_no_empty_one(
    server: WorkflowServer, client: httpx.AsyncClient, body: bytes, framing: str, later: bool
) -> None:
    length, sent = b"Content-Length: %d" % len(body), body
    if framing == "chunks":
        length, sent = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    url = client.base_url
    raw = RawServer(url.host, url.port or 0)
    head = post(*OFFER, length)
    segments = [head, sent] if later else [head + sent]
    answers = parse_answers(await asyncio.to_thread(raw.ask, *segments))
    assert [(item.status, item.list("connection")) for item in answers] == [(400, ["close"])]
    assert (await client.get("/handlers")).json()["handlers"] == []


async def test_an_upgrade_without_a_body_is_passed_over(client: httpx.AsyncClient) -> None:
    headers = {"Connection": "Upgrade, close", "Upgrade": "h2c"}
    response = await client.post("/workflows/echo/run", headers=headers)
    assert response.status_code == 200
