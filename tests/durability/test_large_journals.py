"""A run through which much has gone: its journal, and what its recovery takes, are bounded."""

import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.durability.crash.process import ServerProcess
from tests.durability.crash.workloads import LOAD
from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import start
from tests.support.postgres import connect, schema_of
from tests.support.streams import read_until
from tests.support.waiting import DEADLINE, until
from workflow_server.app.engine.tick_log import HEAVY

MIB = 1 << 20
LOADS = 60
TABLES = {
    "ticks": "tick",
    "snapshots": "snapshot",
    "payloads": "payload",
    "states": "state",
    "state_changes": "change",
    "inbox": "delivery",
}


@pytest.fixture(params=DURABLE)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a fresh store of each kind that a crash leaves."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        yield url


async def test_a_journal_through_which_much_has_gone_is_small_and_read_with_little_memory(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ServerProcess(url, tmp_path, idle_timeout=3600.0)
    await server.start()
    try:
        await server.wait_healthy()
        async with httpx.AsyncClient(base_url=server.url, timeout=10 * DEADLINE) as client:
            await start(client, "heaver", "h", name="h", size=LOADS)
            await until(lambda: has_heaved(server), within=10 * DEADLINE)
            passed = server.peak_memory
            await server.end(signal.SIGKILL)
            journal = await measure_journal(url)
            await server.start()
            await server.wait_healthy()
            before = server.peak_memory
            await read_until(client, "h", lambda frame: frame.type == "Question")
            peak = server.peak_memory
    finally:
        await server.end(signal.SIGKILL)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{LOADS * LOAD / MIB:.0f} MiB went through: a journal of {journal / MIB:.1f} MiB,"
            f" recovered with {peak / MIB:.0f} MiB, {before / MIB:.0f} of them at the start, after"
            f" {passed / MIB:.0f} MiB\n"
        )
    assert journal < HEAVY + 4 * LOAD
    assert peak < 200 * MIB + 8 * HEAVY
    assert passed < 200 * MIB + 8 * HEAVY


def has_heaved(server: ServerProcess) -> bool:
    """Return whether the last large event has come to its step."""
    return f"h {LOADS}" in server.effects.read_text()


async def measure_journal(url: str) -> int:
    """Return the bytes that a store has to bring its runs back."""
    sums = [
        f"SELECT COALESCE(SUM(length({column})), 0) FROM {table}"
        for table, column in TABLES.items()
    ]
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as store:
            return sum(store.execute(query).fetchone()[0] for query in sums)
    async with connect() as database:
        await database.execute(f"SET search_path TO {schema_of(url)}")
        return sum([await database.fetchval(query) for query in sums])
