"""Large answers that nobody reads: bounded in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.memory.measuring import memory_of
from tests.routers.test_large_answers import RESULT, make_ended
from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.command import serving, write_echo
from tests.support.records import batch_of
from tests.support.sockets import Connection, connect
from tests.support.waiting import until
from workflow_server.app.handlers.paging import LARGE_ANSWERS

HANDLERS, READERS = 40, 60
READING = 20  # of them, after the others have hung up
BOUND = 500 << 20  # bytes; for 60 readers without a bound it is more than 600, on SQLite too
PATHS = ("/handlers/h{}", "/results/h{}", "/handlers", "/handlers/h{}/runs", "/handlers/h{}")


@pytest.fixture(params=DURABLE)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a store with many handlers whose results are large, and a small one."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        async with opened_store(url) as store:
            for number in range(HANDLERS):
                await store.commit(batch_of(make_ended(f"h{number}", RESULT)))
            await store.commit(batch_of(make_ended("small", b"null")))
        yield url


async def test_large_answers_that_nobody_reads_are_bounded_in_memory(
    url: str, tmp_path: Path
) -> None:
    write_echo(tmp_path / "flows.py", "echo = Echo()")
    with serving(tmp_path, "flows.py", "--store", url) as server:
        process = server.process.pid
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=300) as client,
            AsyncExitStack() as stack,
        ):
            await client.get("/handlers/small")
            before = memory_of(process, "VmRSS")
            readers = [await stack.enter_async_context(connect(client)) for _ in range(READERS)]
            for number, reader in enumerate(readers):
                path = PATHS[number % len(PATHS)].format(number % HANDLERS)
                await reader.send(f"GET {path} HTTP/1.0", "Host: 127.0.0.1")
            begun = [asyncio.create_task(reader.read_head()) for reader in readers]
            await until(lambda: sum(head.done() for head in begun) >= LARGE_ANSWERS, within=300)
            small = await client.get("/handlers/small")
            assert small.json()["handler_id"] == "small"
            assert memory_of(process, "VmHWM") - before < BOUND
            for head, reader in zip(begun[READING:], readers[READING:], strict=True):
                head.cancel()
                reader.writer.transport.abort()
            answers = zip(begun[:READING], readers[:READING], strict=True)
            statuses = await asyncio.gather(*(drop_all(head, reader) for head, reader in answers))
            # A listing that has waited 30 s for others is refused, on a slow machine.
            assert set(statuses) <= {"200", "503"}
            assert memory_of(process, "VmHWM") - before < BOUND


async def drop_all(head: asyncio.Task[str], reader: Connection) -> str:
    """Read an answer to its end, keeping none of it; return its status."""
    await asyncio.wait([head])
    while await reader.reader.read(1 << 16):
        pass
    return (await head).split()[1]
