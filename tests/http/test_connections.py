"""Clients that are slow, silent, deaf or too talkative keep nobody else from the server."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.calls import run, start, wait_begun
from tests.support.command import RunningServer, serving, write
from tests.support.sockets import Connection, connect, read_stream
from tests.support.waiting import DEADLINE, until

FLOWS = """
import asyncio
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Line(Event):
    text: str


class Busy(Workflow):
    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for _ in range(ev.lines):
            ctx.write_event_to_stream(Line(text="x" * 10_000))
            await asyncio.sleep(ev.pause)
        return StopEvent(result="ended")


busy = Busy(timeout=None)
"""
TIMEOUT = 1.0
HEADER_SIZE = 4_000
CONNECTIONS = 60
DEAF = 50
READ = 1 << 18  # bytes that the server reads at once, at most
HEAD = ("POST /workflows/busy/run HTTP/1.1", "Host: localhost")
MIB = 1 << 20


@dataclass(frozen=True)
class Served:
    """A server in a process of its own, and a client of it."""

    server: RunningServer
    client: httpx.AsyncClient

    @property
    def connections(self) -> int:
        """How many sockets the process has open."""
        folder = Path(f"/proc/{self.server.process.pid}/fd")
        return sum(_is_socket(file) for file in folder.iterdir())

    @property
    def resident(self) -> int:
        """The bytes of memory of the process."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024


def _is_socket(file: Path) -> bool:
    """Return whether an open file is a socket; false where it was closed after it was listed."""
    try:
        return os.readlink(file).startswith("socket:")
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a server with narrow limits."""
    folder = tmp_path_factory.mktemp("flows")
    write(folder / "flows.py", FLOWS)
    limits = {
        "client-timeout": TIMEOUT,
        "max-header-size": HEADER_SIZE,
        "max-connections": CONNECTIONS,
    }
    flags = [part for name, value in limits.items() for part in (f"--{name}", str(value))]
    with serving(folder, "flows.py", *flags) as server:
        yield server


@pytest.fixture
async def served(running: RunningServer) -> AsyncIterator[Served]:
    """Yield the server and a client of it."""
    async with httpx.AsyncClient(base_url=running.url, timeout=DEADLINE) as client:
        yield Served(running, client)


async def read_problem(connection: Connection) -> tuple[int, str]:
    """Return status and code of the problem with which the server closes a connection."""
    async with asyncio.timeout(DEADLINE):
        head = await connection.read_head()
        length = int(head.partition("content-length: ")[2].split()[0])
        problem = json.loads(await connection.reader.readexactly(length))
        with suppress(ConnectionResetError):  # for what was sent meanwhile
            assert await connection.reader.read(-1) == b""
    assert "content-type: application/problem+json" in head
    assert "connection: close" in head
    assert int(head.split()[1]) == problem["status"]
    assert problem["detail"].endswith(".")
    return problem["status"], problem["code"]


async def trickle(connection: Connection, text: bytes) -> None:
    """Send a byte now and then."""
    for byte in text:
        connection.writer.write(bytes([byte]))
        await asyncio.sleep(0.1)


# Slow clients.


async def test_a_head_that_comes_byte_by_byte_is_given_up(served: Served) -> None:
    async with connect(served.client) as slow:
        sending = asyncio.create_task(
            trickle(slow, b"GET /workflows HTTP/1.1\r\n" + b"X: y\r\n" * 99)
        )
        problem = await read_problem(slow)
        sending.cancel()
    assert problem == (408, "client_too_slow")


async def test_a_second_head_that_does_not_end_is_given_up(served: Served) -> None:
    async with connect(served.client) as slow:
        await slow.send("GET /livez HTTP/1.1", "Host: localhost")
        assert await slow.read_status() == 200
        await slow.reader.readexactly(len('{"status":"healthy"}'))
        slow.writer.write(b"GET /workflows HT")
        assert await read_problem(slow) == (408, "client_too_slow")


async def test_who_says_nothing_is_told_nothing(served: Served) -> None:
    async with connect(served.client) as silent, asyncio.timeout(DEADLINE):
        assert await silent.reader.read(-1) == b""


async def test_half_a_body_is_given_up(served: Served) -> None:
    async with connect(served.client) as half:
        await half.send(*HEAD, "Content-Length: 100")
        half.writer.write(b'{"start_event": {')
        assert await read_problem(half) == (408, "client_too_slow")


async def test_a_body_that_comes_bit_by_bit_is_given_up(served: Served) -> None:
    async with connect(served.client) as slow:
        await slow.send(*HEAD, "Transfer-Encoding: chunked")
        sending = asyncio.create_task(trickle(slow, b"1\r\n \r\n" * 99))
        problem = await read_problem(slow)
        sending.cancel()
    assert problem == (408, "client_too_slow")


async def test_a_request_that_is_slow_but_in_time_is_answered(served: Served) -> None:
    async def is_answered_in_parts() -> bool:
        async with connect(served.client) as slow:
            body = b'{"start_event": {"lines": 1, "pause": 0}}'
            head = "\r\n".join([*HEAD, f"Content-Length: {len(body)}", "", ""]).encode()
            for part in (head[:10], head[10:], body[:9], body[9:]):
                slow.writer.write(part)
                await asyncio.sleep(TIMEOUT / 10)
            return await slow.read_status() == 200

    # On a machine that is busy with something else, one may be too late.
    await until(is_answered_in_parts)


async def test_an_answer_may_take_longer_than_a_request(served: Served) -> None:
    handler = await run(served.client, "busy", lines=1, pause=2.5 * TIMEOUT)
    assert handler["status"] == "completed"


async def test_a_stream_may_be_silent_for_longer_than_a_request_may_take(served: Served) -> None:
    handler_id = await start(served.client, "busy", lines=2, pause=2.5 * TIMEOUT)
    async with read_stream(served.client, handler_id, "after_sequence=-1") as reader:
        body = await reader.reader.read(-1)
    assert body.count(b"\nid: ") == 3


# Clients that hang up.


@pytest.mark.parametrize("size", [0, READ], ids=["a request", "a large body"])
async def test_a_client_that_hangs_up_with_a_request_behind_its_stream_gives_the_position_back(
    served: Served, size: int
) -> None:
    handler_id = await start(served.client, "busy", lines=2, pause=300)
    stream = f"/events/{handler_id}?sse=false&acquire_timeout=0"
    async with connect(served.client) as reader:
        await reader.send(f"GET {stream} HTTP/1.1", "Host: localhost")
        assert await reader.read_status() == 200
        await reader.send(*HEAD, f"Content-Length: {size}")
        reader.writer.write(b"x" * size)
        await reader.writer.drain()
        reader.reset()

    async def is_given_back() -> bool:
        async with connect(served.client) as other:
            await other.send(f"GET {stream} HTTP/1.0", "Host: localhost")
            return await other.read_status() == 200

    await until(is_given_back)
    await served.client.post(f"/handlers/{handler_id}/cancel")


# Large heads.


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /workflows?q=" + "x" * HEADER_SIZE + " HTTP/1.1", "Host: localhost"),
        ("GET /workflows HTTP/1.1", "Host: localhost", "X-Long: " + "x" * HEADER_SIZE),
        ("GET /workflows HTTP/1.1", *(f"X-{n}: y" for n in range(HEADER_SIZE // 6))),
    ],
    ids=["url", "header", "headers"],
)
async def test_a_head_that_is_too_large_is_refused(served: Served, lines: tuple[str, ...]) -> None:
    async with connect(served.client) as large:
        await large.send(*lines)
        assert await read_problem(large) == (431, "head_too_large")


async def test_a_head_within_the_limit_is_taken(served: Served) -> None:
    text = "x" * (HEADER_SIZE - 200)
    response = await served.client.get("/workflows", headers={"X-Long": text})
    assert response.status_code == 200


async def test_a_small_head_is_taken_though_a_large_body_comes_with_it(served: Served) -> None:
    body = json.dumps({"start_event": {"lines": 1, "pause": 0}}).ljust(10 * HEADER_SIZE)
    async with connect(served.client) as large:
        head = "\r\n".join([*HEAD, f"Content-Length: {len(body)}", "", ""])
        large.writer.write((head + body).encode())
        assert await large.read_status() == 200


@pytest.mark.parametrize(
    "rest",
    [b"X-Endless: ", b"", b"1;extension=", b"0\r\nX-Trailer: "],
    ids=["header", "name", "chunk-extension", "trailer"],
)
async def test_what_never_ends_is_refused_before_it_fills_the_memory(
    served: Served, rest: bytes
) -> None:
    in_body = rest[:1] in (b"0", b"1")
    async with connect(served.client) as endless:
        if in_body:
            await endless.send(*HEAD, "Transfer-Encoding: chunked")
        else:
            endless.writer.write(b"GET /workflows HTTP/1.1\r\n")
        endless.writer.write(rest + b"x" * 2 * READ)
        assert await read_problem(endless) == (431, "head_too_large")


async def test_a_second_head_that_never_ends_cuts_off_the_first_request(served: Served) -> None:
    body = b'{"start_event": {"lines": 1, "pause": 600}}'
    async with connect(served.client) as endless, asyncio.timeout(DEADLINE):
        await endless.send(*HEAD, f"Content-Length: {len(body)}")
        endless.writer.write(body + b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * 2 * READ)
        with suppress(ConnectionResetError):
            assert await endless.reader.read(-1) == b""


async def test_what_is_no_http_is_told_so_as_a_problem(served: Served) -> None:
    async with connect(served.client) as strange:
        strange.writer.write(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert await read_problem(strange) == (400, "malformed_request")


# Many connections.


async def test_more_connections_than_may_be_are_refused(served: Served) -> None:
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(connect(served.client)) for _ in range(CONNECTIONS + 1)
        ]
        assert await read_problem(opened[-1]) == (503, "too_many_connections")
    await until(lambda: is_answered(served.client))


async def test_an_idle_connection_gives_way_to_a_new_one(served: Served) -> None:
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(connect(served.client)) for _ in range(CONNECTIONS)
        ]
        for connection in opened:
            assert await ask_if_alive(connection) == 200
        newcomer = await stack.enter_async_context(connect(served.client))
        assert await ask_if_alive(newcomer) == 200
        assert await opened[0].reader.read(-1) == b""  # closed
        assert await ask_if_alive(opened[1]) == 200
    await until(lambda: is_answered(served.client))


async def ask_if_alive(connection: Connection) -> int:
    """Make a request on a connection, and return the status of its answer."""
    async with asyncio.timeout(DEADLINE):
        await connection.send("GET /livez HTTP/1.1", "Host: localhost")
        head = await connection.read_head()
        length = int(head.partition("content-length: ")[2].split()[0])
        await connection.reader.readexactly(length)
    return int(head.split()[1])


async def is_answered(client: httpx.AsyncClient) -> bool:
    """Return whether a request is taken."""
    try:
        return (await client.get("/livez")).status_code == 200
    except httpx.TransportError:
        return False


# Clients that do not read.


@asynccontextmanager
async def reading_nothing(
    client: httpx.AsyncClient, handler_id: str, query: str, *, clients: int
) -> AsyncIterator[list[Connection]]:
    """Yield connections that have asked for a stream, and read nothing of it but its head."""
    async with AsyncExitStack() as stack:
        deaf = []
        for _ in range(clients):
            connection = await stack.enter_async_context(read_stream(client, handler_id, query))
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of reading transports, as this is one
            deaf.append(connection)
        yield deaf


@pytest.mark.parametrize("query", ["after_sequence=-1", "after_sequence=-1&sse=false"])
async def test_clients_that_read_nothing_are_dropped_and_hold_nobody_up(
    served: Served, query: str
) -> None:
    handler_id = await start(served.client, "busy", lines=3_000, pause=0.001)
    await wait_begun(served.client, handler_id)
    memory = served.resident
    async with reading_nothing(served.client, handler_id, query, clients=DEAF):
        await until(lambda: served.connections >= DEAF)
        async with read_stream(served.client, handler_id, "after_sequence=-1") as reader:
            body = await reader.reader.read(-1)
        grown = served.resident - memory
        await until(lambda: served.connections < DEAF / 2)
    assert body.count(b"\nid: ") == 3_001
    assert grown < 50 * MIB


async def test_a_client_that_reads_slowly_is_not_dropped(served: Served) -> None:
    handler_id = await start(served.client, "busy", lines=600, pause=0)
    read = b""
    async with read_stream(served.client, handler_id, "after_sequence=-1") as slow:
        while not slow.reader.at_eof():
            read += await slow.reader.read(200_000)
            await asyncio.sleep(0.1)
    assert read.count(b"\nid: ") == 601
