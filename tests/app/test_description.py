"""What a server writes of itself into its store, for others to read."""

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.durability.faulty import Fault, FaultyStore
from tests.support.backends import FRESH_URLS
from tests.support.command import serving, write_echo
from tests.support.waiting import until
from tests.support.workflows import Asker, Echo
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import ServerRecord
from workflow_server.stores.base import Store
from workflow_server.stores.memory import MemoryStore

RELEASE = version("workflow-server")


def says(store: Store, *workflows: str, state: str = "serving") -> Callable[[], Awaitable[bool]]:
    """Return what asks whether a store says this of its one server."""
    expected = ServerRecord(version=RELEASE, workflows=workflows, state=state)

    async def found() -> bool:
        return await store.list_servers() == [expected]

    return found


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_a_server_says_what_it_serves_and_that_it_is_about_to_stop(
    kind: str, tmp_path: Path
) -> None:
    async with FRESH_URLS[kind](tmp_path) as url:
        server = WorkflowServer(workflow_store=url)
        server.add_workflow("asks", Asker())
        store = server.lifecycle.reads.store
        async with server.contextmanager():
            await until(says(store, "asks"))
            server.add_workflow("added", Echo())
            await until(says(store, "added", "asks"))
            await server.lifecycle.drain(grace=0)
            await until(says(store, "added", "asks", state="draining"))


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.HANG_BEFORE])
async def test_what_a_server_is_is_written_when_the_store_is_back(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.app.description.CHECK_TIMEOUT", 0.05)
    real = MemoryStore()
    await real.start()
    store = FaultyStore(real)
    script = store.break_down("describe", fault)
    server = WorkflowServer(workflow_store=store)
    server.add_workflow("asks", Asker())
    async with server.contextmanager():
        await until(lambda: script.happened > 1)
        store.repair()
        await until(says(real, "asks"))


def test_the_command_says_where_it_listens(tmp_path: Path) -> None:
    served = write_echo(tmp_path / "served.py", "echo = Echo()")
    with (
        serving(tmp_path, str(served), "--store", "sqlite:///runs.db") as server,
        closing(sqlite3.connect(tmp_path / "runs.db")) as file,
    ):
        rows: list[tuple[str, ...]] = []
        while not rows:
            rows = file.execute(
                "SELECT address, version, workflows, state FROM incarnations WHERE state > ''"
            ).fetchall()
    assert rows == [(server.url, RELEASE, '["echo"]', "serving")]
