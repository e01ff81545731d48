"""Requests to other servers: sent at most once, and every outcome is told apart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from tests.support.live import serving_app
from tests.support.ports import find_port
from tests.support.waiting import DEADLINE
from workflow_server.app.replicas.peers import (
    MAX_UNREAD,
    Answered,
    Connections,
    NotReached,
    PeerLost,
    Unknown,
)

SECRET = "of the store"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Return each event loop that a server runs on."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class Echo:
    """An application that answers with what it was sent, and counts its requests and clients."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.clients: set[object] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        headers = dict(scope["headers"])
        self.requests.append((headers[b"replica-secret"].decode(), body))
        self.clients.add(scope["client"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode() + b" " + body})


@pytest.fixture
async def peers() -> AsyncIterator[Connections]:
    peers = Connections()
    peers.start(SECRET)
    yield peers
    peers.stop()


@asynccontextmanager
async def answering(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve TCP connections on loopback and yield the URL."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_server_answers_with_the_body_that_it_was_sent(peers: Connections) -> None:
    echo = Echo()
    async with serving_app(echo, lifespan="off") as address:
        outcome = await peers.ask(address, "/there", b"[1]", timeout=DEADLINE)
    assert outcome == Answered(200, b"/there [1]")
    assert echo.requests == [(SECRET, b"[1]")]


async def test_requests_one_after_the_other_share_a_connection(peers: Connections) -> None:
    echo = Echo()
    async with serving_app(echo, lifespan="off") as address:
        for number in range(20):
            await peers.ask(address, "/", b"%d" % number, timeout=DEADLINE)
    assert [body for _, body in echo.requests] == [b"%d" % number for number in range(20)]
    assert len(echo.clients) == 1


async def test_requests_at_once_keep_their_answers(peers: Connections) -> None:
    async with serving_app(Echo(), lifespan="off") as address:
        asked = [peers.ask(address, "/", b"%d" % n, timeout=DEADLINE) for n in range(200)]
        outcomes = await asyncio.gather(*asked)
    assert outcomes == [Answered(200, b"/ %d" % number) for number in range(200)]


async def test_a_server_that_is_not_there_is_not_reached(peers: Connections) -> None:
    address = f"http://127.0.0.1:{find_port()}"
    assert await peers.ask(address, "/", b"", timeout=DEADLINE) == NotReached()


async def test_a_kept_connection_that_its_server_closed_is_not_used(peers: Connections) -> None:
    port = find_port()
    first, second = Echo(), Echo()
    async with serving_app(first, lifespan="off", port=port) as address:
        await peers.ask(address, "/", b"1", timeout=DEADLINE)
    assert await peers.ask(address, "/", b"2", timeout=DEADLINE) == NotReached()
    async with serving_app(second, lifespan="off", port=port) as address:
        assert await peers.ask(address, "/", b"3", timeout=DEADLINE) == Answered(200, b"/ 3")
    assert [body for _, body in (*first.requests, *second.requests)] == [b"1", b"3"]


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1"],
)
async def test_a_server_that_hangs_up_leaves_the_outcome_unknown(
    peers: Connections, said: bytes
) -> None:
    taken: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(said)
        writer.close()

    async with answering(hang_up) as address:
        assert await peers.ask(address, "/", b"", timeout=DEADLINE) == Unknown()
    assert len(taken) == 1


async def test_what_is_no_http_leaves_the_outcome_unknown(peers: Connections) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await reader.read()
        writer.close()

    async with answering(babble) as address:
        assert await peers.ask(address, "/", b"", timeout=DEADLINE) == Unknown()


async def test_a_server_that_is_silent_leaves_the_outcome_unknown(peers: Connections) -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with answering(keep_silent) as address:
        assert await peers.ask(address, "/", b"", timeout=0.05) == Unknown()


async def test_a_stream_is_read_as_it_comes_and_no_faster(peers: Connections) -> None:
    size = 40 * MAX_UNREAD
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * MAX_UNREAD)
            await writer.drain()
            sent += MAX_UNREAD
        writer.close()

    received = 0
    async with (
        answering(pour) as address,
        peers.stream(address, "/", b"", timeout=DEADLINE) as stream,
    ):
        while part := await stream.read(timeout=DEADLINE):
            received += len(part)
            # The kernel keeps a few megabytes for the two.
            assert len(part) <= 2 * MAX_UNREAD
    assert received == size


async def test_a_stream_that_breaks_off_is_lost(peers: Connections) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        writer.close()

    async with (
        answering(break_off) as address,
        peers.stream(address, "/", b"", timeout=DEADLINE) as stream,
    ):
        assert await stream.read(timeout=DEADLINE) == b"hi"
        with pytest.raises(PeerLost):
            await stream.read(timeout=DEADLINE)
