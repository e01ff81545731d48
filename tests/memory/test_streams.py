"""Streams of large events that nobody reads: bounded in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.memory.measuring import memory_of
from tests.routers.test_large_pages import LARGE, LITTLE, QUERY, make_batch, read_beginning
from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.command import serving, write_echo
from tests.support.sockets import Connection, read_stream
from workflow_server.routers.streaming import HEARTBEAT

READERS = 60
READING = 20  # of them, after the others have hung up
BOUND = 350 << 20  # bytes; for 60 readers without a bound it is more than 500


@pytest.fixture(params=DURABLE)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a store with many runs that have a large event, and one that has none."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        async with opened_store(url) as store:
            for number in range(READERS):
                await store.commit(make_batch(f"h{number}", LITTLE, LARGE, LITTLE))
            await store.commit(make_batch("small", LITTLE))
        yield url


async def test_streams_of_large_events_that_nobody_reads_are_bounded_in_memory(
    url: str, tmp_path: Path
) -> None:
    write_echo(tmp_path / "flows.py", "echo = Echo()")
    options = ("--store", url, "--sse-heartbeat-interval", "1")
    with serving(tmp_path, "flows.py", *options) as server:
        process = server.process.pid
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=300) as client,
            AsyncExitStack() as stack,
        ):
            await client.get("/events/small", params={"after_sequence": -1})
            before = memory_of(process, "VmRSS")
            readers = [
                await stack.enter_async_context(read_stream(client, f"h{number}", QUERY))
                for number in range(READERS)
            ]
            # Each has begun, or is told that it waits.
            begun = await asyncio.gather(*map(read_beginning, readers))
            assert set(begun) <= {b"id: ", HEARTBEAT[:4]}
            small = await client.get("/events/small", params={"after_sequence": -1})
            assert small.content == b"id: 0\ndata: %b\n\n" % LITTLE
            assert memory_of(process, "VmHWM") - before < BOUND
            for reader in readers[READING:]:
                reader.writer.transport.abort()
            ends = await asyncio.gather(*map(read_end, readers[:READING]))
            assert set(ends) == {b"id: 2\ndata: %b\n\n" % LITTLE}
            assert memory_of(process, "VmHWM") - before < BOUND


async def read_end(reader: Connection) -> bytes:
    """Read a stream to its end, and return its last event."""
    last = b""
    while piece := await reader.reader.read(1 << 16):
        last = (last + piece)[-2 * len(LITTLE) :]
    return last[last.index(b"id: ") :]
