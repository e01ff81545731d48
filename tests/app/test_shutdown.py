"""A server in a process of its own leaves at once when it is told to."""

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.calls import answer, start, start_asker, wait_begun, wait_ended
from tests.support.ports import find_port
from tests.support.problems import problem_of
from tests.support.sockets import read_stream
from tests.support.streams import iterate_frames, read_frames
from tests.support.waiting import DEADLINE, until

ROOT = Path(__file__).parents[2]
GRACE = 600.0  # seconds: whoever had to wait for its end would be noticed
PROGRAM = """
import asyncio, sys
from workflow_server.app.server import WorkflowServer
from tests.support.workflows import add_all

server = WorkflowServer(workflow_store=sys.argv[2], shutdown_timeout=float(sys.argv[3]))
add_all(server)
asyncio.run(server.serve(port=int(sys.argv[1])))
"""


@dataclass(frozen=True)
class Served:
    """A process that serves, and a client of it."""

    process: Process
    client: httpx.AsyncClient
    port: int


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Yield a server that answers."""
    async with serving() as served:
        yield served


@asynccontextmanager
async def serving(store: str = "memory:", *, grace: float = GRACE) -> AsyncIterator[Served]:
    """Yield a server that answers."""
    port = find_port()
    command = [sys.executable, "-c", PROGRAM, str(port), store, str(grace)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE
        ) as client:

            async def answers() -> bool:
                with suppress(httpx.TransportError):
                    return (await client.get("/health")).status_code == 200
                return False

            await until(answers)
            yield Served(process, client, port)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def leaving(served: Served, number: signal.Signals) -> AsyncIterator[None]:
    """Send a signal, and see that the process ends long before its grace period does."""
    served.process.send_signal(number)
    yield
    async with asyncio.timeout(GRACE / 10):
        await served.process.wait()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Make a request, and return the head of its answer."""
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return await reader.readuntil(b"\r\n\r\n")


async def ask_until_refused(port: int, answers: list[bytes]) -> None:
    """Make requests on a connection each until nobody listens; note how each was answered."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        answers.append((await ask(reader, writer)).partition(b"\r\n")[0])
        writer.close()


async def wait_draining(served: Served) -> None:
    """Return when the server is not ready any more."""

    async def drains() -> bool:
        return (await served.client.get("/readyz")).status_code == 503

    await until(drains)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_server_though_streams_are_open(
    served: Served, number: signal.Signals
) -> None:
    handler_id = await start_asker(served.client)
    params = {"after_sequence": "-1"}
    async with served.client.stream("GET", f"/events/{handler_id}", params=params) as response:
        frames = iterate_frames(response)
        first = await anext(frames)
        async with leaving(served, number):
            rest = [frame async for frame in frames]
    assert (first.type, rest) == ("Question", [])


async def test_readers_are_told_to_come_back(served: Served) -> None:
    handler_id = await start_asker(served.client)
    async with read_stream(served.client, handler_id, "after_sequence=now") as reader:
        await reader.read_head()
        async with leaving(served, signal.SIGTERM):
            body = await reader.reader.read(-1)
    assert body == b"retry: 1000\n\n"  # HTTP/1.0 has no chunks


async def test_a_signal_ends_the_server_though_runs_are_waited_for(served: Served) -> None:
    waiting = asyncio.create_task(
        served.client.post("/workflows/asker/run", json={"handler_id": "waited"})
    )

    async def accepted() -> bool:
        return (await served.client.get("/handlers/waited")).status_code == 202

    await until(accepted)
    async with leaving(served, signal.SIGTERM):
        response = await waiting
    assert problem_of(response) == (503, "run_unfinished")
    assert "'waited'" in response.json()["detail"]
    assert response.headers["retry-after"] == "5"
    assert response.url.join(response.headers["location"]).path == "/handlers/waited"


async def test_a_draining_server_takes_no_new_runs_and_serves_everything_else(
    served: Served,
) -> None:
    asker, sleeper = await start_asker(served.client), await start(served.client, "sleeper")
    async with leaving(served, signal.SIGTERM):
        await wait_draining(served)
        refused = [
            await served.client.post(f"/workflows/echo/{path}", json={})
            for path in ("run", "run-nowait")
        ]
        others = [
            await served.client.get(path)
            for path in ("/livez", "/health", "/workflows", f"/handlers/{asker}")
        ]
        answered = await answer(served.client, asker, "yes")
        frames = await read_frames(served.client, asker)
        cancelled = await served.client.post(f"/handlers/{sleeper}/cancel")
    assert [problem_of(response) for response in refused] == [(503, "draining")] * 2
    assert [response.headers["retry-after"] for response in refused] == ["5"] * 2
    assert [response.status_code for response in others] == [200, 200, 200, 202]
    assert answered.json() == {"status": "sent"}
    assert frames[-1].value == {"result": ["yes"]}
    assert cancelled.json() == {"status": "cancelled"}


async def test_whoever_connects_while_the_server_stops_is_answered_or_finds_nobody(
    served: Served,
) -> None:
    answers: list[bytes] = []
    clients = [asyncio.create_task(ask_until_refused(served.port, answers)) for _ in range(200)]
    await until(lambda: len(answers) > len(clients))
    async with leaving(served, signal.SIGTERM):
        await asyncio.gather(*clients)  # raises where a connection is reset
    assert set(answers) == {b"HTTP/1.1 200 OK"}


async def test_who_has_connected_may_send_its_first_request_after_kept_connections_are_closed(
    served: Served,
) -> None:
    kept = await asyncio.open_connection("127.0.0.1", served.port)
    fresh = await asyncio.open_connection("127.0.0.1", served.port)
    await ask(*kept)
    async with leaving(served, signal.SIGTERM):
        await kept[0].read(-1)  # the body, and that the connection is closed
        assert (await ask(*fresh)).startswith(b"HTTP/1.1 200")
    for _, writer in (kept, fresh):
        writer.close()


async def test_who_has_connected_and_asks_nothing_does_not_hold_up_the_end(served: Served) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    async with leaving(served, signal.SIGTERM):
        pass
    writer.close()


async def test_a_draining_server_says_that_a_connection_ends_with_the_answer(
    served: Served,
) -> None:
    await wait_begun(served.client, await start(served.client, "sleeper"))
    before = await served.client.get("/livez")
    async with leaving(served, signal.SIGTERM):
        await wait_draining(served)
        draining = await served.client.get("/livez")
        served.process.send_signal(signal.SIGTERM)
    assert "connection" not in before.headers
    assert draining.headers["connection"] == "close"


async def test_a_request_that_does_not_come_to_its_end_in_time_may_be_made_again() -> None:
    async with serving(grace=0.5) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            b"POST /workflows/echo/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
        )
        await served.client.get("/health")  # what came before it has been read
        async with leaving(served, signal.SIGTERM):
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 5\r\n" in head.lower()
    assert b'"code":"draining"' in body


async def test_runs_at_work_get_the_grace_period(served: Served) -> None:
    waiting = asyncio.create_task(
        served.client.post(
            "/workflows/sleeper/run",
            json={"handler_id": "at-work", "start_event": {"seconds": 1.5}},
        )
    )
    await wait_begun_as(served, "at-work")
    async with leaving(served, signal.SIGTERM):
        handler = (await waiting).json()
    assert (handler["status"], handler["result"]["value"]) == ("completed", {"result": "slept"})


async def wait_begun_as(served: Served, handler_id: str) -> None:
    """Return when a run that another request starts has begun."""

    async def accepted() -> bool:
        return (await served.client.get(f"/handlers/{handler_id}")).status_code == 202

    await until(accepted)
    await wait_begun(served.client, handler_id)


async def test_a_second_signal_hurries(served: Served) -> None:
    await wait_begun(served.client, await start(served.client, "sleeper"))
    async with leaving(served, signal.SIGTERM):
        await wait_draining(served)
        served.process.send_signal(signal.SIGTERM)


async def test_an_event_for_a_queued_run_is_taken_while_the_server_drains(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with serving(store) as first:
        busy = await start(first.client, "one-at-a-time")
        await wait_begun(first.client, busy)
        queued = await start(first.client, "one-at-a-time", seconds=0)
        event = {"event": {"type": "StopEvent", "value": {"result": "sent"}}}
        before = await first.client.post(f"/events/{queued}", json=event)
        async with leaving(first, signal.SIGTERM):
            await wait_draining(first)
            draining = await first.client.post(f"/events/{queued}", json=event)
            await first.client.post(f"/handlers/{busy}/cancel")
    async with serving(store) as second:
        handler = await wait_ended(second.client, queued)
    assert [response.status_code for response in (before, draining)] == [200, 200]
    assert (handler["status"], handler["result"]["value"]) == ("completed", {"result": "slept"})


async def test_a_run_that_waits_for_its_turn_does_not_hold_up_the_end(served: Served) -> None:
    first = await start(served.client, "one-at-a-time", seconds=1.5)
    await wait_begun(served.client, first)
    await start(served.client, "one-at-a-time")
    async with leaving(served, signal.SIGTERM):
        pass


async def test_what_was_cut_off_goes_on_at_the_next_start(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with serving(store, grace=0.2) as first:
        waiting = asyncio.create_task(
            first.client.post(
                "/workflows/sleeper/run",
                json={"handler_id": "cut-off", "start_event": {"seconds": 2}},
            )
        )
        await wait_begun_as(first, "cut-off")
        async with leaving(first, signal.SIGTERM):
            told = await waiting
    async with serving(store) as second:
        handler = await wait_ended(second.client, "cut-off")
        frames = await read_frames(second.client, "cut-off", include_internal=True)
    assert problem_of(told) == (503, "run_unfinished")
    assert (handler["status"], handler["error"]) == ("completed", None)
    assert [frame.type for frame in frames].count("RunResumedEvent") == 1


async def test_clients_that_read_nothing_do_not_hold_up_the_end(served: Served) -> None:
    handler_id = await start(served.client, "counter", count=4_000, padding=4_000)
    await wait_ended(served.client, handler_id)
    async with AsyncExitStack() as stack:
        deaf = [
            await stack.enter_async_context(
                read_stream(served.client, handler_id, "after_sequence=-1")
            )
            for _ in range(5)
        ]
        for connection in deaf:
            await connection.read_head()
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of reading transports, as this is one
        async with leaving(served, signal.SIGTERM):
            pass
