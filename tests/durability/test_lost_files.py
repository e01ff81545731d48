"""The file of a server is moved, replaced or loses its journal while its runs are at work."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.durability.test_incarnations import Server, begin_at, see_all, started
from tests.support.calls import result_of
from tests.support.problems import problem_of
from tests.support.waiting import until

MOVED, SENT = "moved.db", {"handler_id": "refused"}


def move(path: Path) -> None:
    """Move a file to another name."""
    path.rename(path.with_name(MOVED))


def replace(path: Path) -> None:
    """Move a file, and put a copy in its place."""
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    move(path)
    copy.rename(path)


def remove_journal(path: Path) -> None:
    """Remove what is not yet in a file."""
    path.with_name(f"{path.name}-wal").unlink()


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return why the log says that a store cannot be had."""
    return [str(getattr(record, "error", "")) for record in caplog.records]


async def goes_on(server: Server) -> None:
    """Fail unless the run `r` of a server goes on from what readers have seen, to its end."""
    await until(server.is_healthy)
    server.gate.set()
    assert await result_of(server.client, "r") == "a"


async def test_a_server_whose_file_is_moved_takes_nothing_until_it_is_put_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "runs.db"
    async with started("a", f"sqlite:///{path}") as a:
        seen = await begin_at(a)
        move(path)
        assert await a.health() == 503
        refused = await a.client.post("/workflows/it/run-nowait", json=SENT)
        await until(lambda: any("put it back" in reason for reason in reasons(caplog)))
        assert not path.exists()
        path.with_name(MOVED).rename(path)
        await goes_on(a)
        shown = await see_all(a.client, "r")
        handler = await a.client.get("/handlers/refused")
    assert problem_of(refused)[0] == 503
    assert handler.status_code == 404
    assert shown[: len(seen)] == seen
    assert "was moved, removed or replaced while it was in use" in caplog.text


@pytest.mark.parametrize("harm", [replace, remove_journal])
async def test_a_server_goes_on_by_itself_with_the_file_under_the_name(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    async with started("a", f"sqlite:///{path}") as a:
        seen = await begin_at(a)
        harm(path)
        await goes_on(a)
        shown = await see_all(a.client, "r")
    assert shown[: len(seen)] == seen
    async with started("b", f"sqlite:///{path}") as b:
        assert await see_all(b.client, "r") == shown
