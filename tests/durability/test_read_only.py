"""A database that becomes read-only under a server, and can be written again."""

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.durability.crash.process import ROOT, SERVED, STARTUP
from tests.support.backends import DURABLE, opened_store
from tests.support.calls import send, start_asker
from tests.support.command import COMMAND, make_environment
from tests.support.live import open_client
from tests.support.postgres_instance import postgres_instance
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.base import Store
from workflow_server.stores.sqlite import SqliteStore

SetReadOnly = Callable[[bool], Awaitable[None]]


@asynccontextmanager
async def settable(kind: str, folder: Path) -> AsyncIterator[tuple[Store, SetReadOnly]]:
    """Yield a store, and what makes its database read-only, and writable again."""
    async with AsyncExitStack() as stack:
        if kind == "postgres":
            database = await stack.enter_async_context(postgres_instance())
            yield (
                await stack.enter_async_context(opened_store(database.url)),
                database.set_read_only,
            )
            return
        store = await stack.enter_async_context(opened_store(f"sqlite:///{folder / 'runs.db'}"))
        assert isinstance(store, SqliteStore)

        async def set_read_only(value: bool) -> None:
            assert store._writer is not None
            sql = f"PRAGMA query_only = {value:d}"
            await store._writer.call(lambda connection: connection.execute(sql).fetchall())

        yield store, set_read_only


async def is_healthy(client: httpx.AsyncClient) -> bool:
    """Return whether the server says that it is healthy."""
    return (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_read_only_database_acknowledges_nothing_and_goes_on_when_it_can_be_written(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with settable(kind, tmp_path) as (store, set_read_only):
        server = WorkflowServer(workflow_store=store, persistence_backoff=(0.01,))
        add_all(server)
        async with open_client(server) as client:
            handler_id = await start_asker(client)
            await set_read_only(True)
            refused = [
                await client.post("/workflows/echo/run-nowait", json={}),
                await send(client, handler_id, "Answer", {"text": "lost"}),
            ]
            assert [each.status_code for each in refused] == [503, 503]
            assert not await is_healthy(client)
            assert (await client.get(f"/handlers/{handler_id}")).status_code == 202
            await set_read_only(False)
            await until(lambda: is_healthy(client))
            assert (await client.post("/workflows/echo/run", json={})).status_code == 200
    assert "read" in caplog.text


async def is_unhealthy(client: httpx.AsyncClient) -> bool:
    """Return whether the server says that it is not healthy."""
    return not await is_healthy(client)


@asynccontextmanager
async def idle(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, clock_pause: float
) -> AsyncIterator[tuple[httpx.AsyncClient, SetReadOnly]]:
    """Yield a client of a server of no runs, and what makes its database read-only."""
    monkeypatch.setattr("workflow_server.app.lifecycle.CLOCK_PAUSE", clock_pause)
    async with settable(kind, folder) as (store, set_read_only):
        server = WorkflowServer(workflow_store=store, persistence_backoff=(0.01,))
        async with open_client(server) as client:
            await until(lambda: is_healthy(client))
            yield client, set_read_only


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_server_of_no_runs_says_that_its_database_has_become_read_only(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with idle(kind, tmp_path, monkeypatch, clock_pause=0.05) as (client, set_read_only):
        await set_read_only(True)
        await until(lambda: is_unhealthy(client))
        await set_read_only(False)
        await until(lambda: is_healthy(client))


async def test_postgres_says_itself_that_it_has_become_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with idle("postgres", tmp_path, monkeypatch, clock_pause=3600) as (client, set_read_only):
        await set_read_only(True)
        await until(lambda: is_unhealthy(client))
        await set_read_only(False)
        await until(lambda: is_healthy(client))


def test_a_store_in_a_read_only_folder_is_refused_by_a_sentence(tmp_path: Path) -> None:
    ended = serve_read_only(tmp_path, f"sqlite:///{tmp_path / 'runs.db'}")
    assert ended.returncode == 2
    assert f"{tmp_path / 'runs.db'} cannot be opened: Read-only file system." in ended.stderr
    assert "Traceback" not in ended.stderr


def serve_read_only(folder: Path, store: str) -> subprocess.CompletedProcess[str]:
    """Serve a store in a folder that is mounted read-only for the server alone."""
    mounting = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mounting], check=False).returncode:
        pytest.skip("Nothing can be mounted here.")
    serving = f"exec {COMMAND} serve {SERVED} --port 0"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{mounting} && {serving}"],
        env=make_environment(CRASH_STORE=store, CRASH_IDLE_TIMEOUT="1", PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=STARTUP,
        check=False,
    )
