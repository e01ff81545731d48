"""The file of the SQLite store: one server by whatever path, and nothing written elsewhere."""

import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.stores.test_conformance import batch_of, make_run
from workflow_server.schemas.records import Batch
from workflow_server.stores.base import Store, StoreError, StoreFenced
from workflow_server.stores.sqlite import SqliteStore

IN_USE = "is in use by another process"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that is not there yet."""
    return tmp_path / "runs.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """Yield a store, started, with one run."""
    store = SqliteStore(path)
    await store.start()
    await store.commit(batch_of(make_run()))
    yield store
    await store.stop()


def link_softly(path: Path, other: Path) -> None:
    """Make a symbolic link to a file."""
    other.symlink_to(path)


def link_folder(path: Path, other: Path) -> None:
    """Make a symbolic link to a file's folder, in the place of the other's."""
    other.parent.symlink_to(path.parent)


def link_without_lock(path: Path, other: Path) -> None:
    """Make a symbolic link to a file, and remove the lock beside it."""
    other.symlink_to(path)
    path.with_name("runs.db.lock").unlink()


@pytest.mark.parametrize(
    ("link", "name"),
    [
        (link_softly, "other.db"),
        (link_folder, "folder/runs.db"),
        (link_without_lock, "other.db"),
    ],
)
async def test_another_path_to_a_file_in_use_is_refused(
    store: SqliteStore, path: Path, link: Callable[[Path, Path], None], name: str
) -> None:
    other = path.parent / name
    link(path, other)
    with pytest.raises(StoreError, match=IN_USE):
        await SqliteStore(other).start()
    assert await store.commit(batch_of(make_run("s"))) == []


async def test_a_file_whose_lock_was_removed_is_still_in_use(
    store: SqliteStore, path: Path
) -> None:
    path.with_name("runs.db.lock").unlink()
    with pytest.raises(StoreError, match=IN_USE):
        await SqliteStore(path).start()
    assert await store.commit(batch_of(make_run("s"))) == []


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_file_with_two_names_is_refused(
    store: SqliteStore, path: Path, *, is_open: bool
) -> None:
    if not is_open:
        await store.stop()
    other = path.with_name("other.db")
    other.hardlink_to(path)
    with pytest.raises(StoreError, match="has more than one name"):
        await SqliteStore(other).start()


def run_ids_in(path: Path) -> list[str]:
    """Return the runs that a file has, for who opens it anew."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT run_id FROM runs ORDER BY 1")]


async def is_given_up(store: Store, sentence: str) -> None:
    """Fail unless a batch is refused with this sentence, and everything after it as well."""
    with pytest.raises(StoreFenced, match=sentence):
        await store.commit(batch_of(make_run("late")))
    with pytest.raises(StoreFenced, match=sentence):
        await store.commit(Batch())
    with pytest.raises(StoreFenced, match=sentence):
        await store.check()


def move(path: Path) -> None:
    """Move a file to another name."""
    path.rename(path.with_name("moved.db"))


def replace(path: Path) -> None:
    """Put a copy in the place of a file, as an editor does."""
    shutil.copy(path, path.with_name("copy.db"))
    path.rename(path.with_name("moved.db"))
    path.with_name("copy.db").rename(path)


@pytest.mark.parametrize("change", [move, replace])
async def test_a_file_that_is_not_under_its_name_any_more_takes_no_batch_and_is_whole(
    store: SqliteStore, path: Path, change: Callable[[Path], None]
) -> None:
    change(path)
    await is_given_up(store, "was moved, removed or replaced while it was in use")
    await store.stop()
    moved = path.with_name("moved.db")
    for journal in path.parent.glob("*-wal"):
        journal.unlink()
    assert "r" in run_ids_in(moved)


async def test_a_file_that_was_moved_is_not_made_anew_and_can_be_put_back(
    store: SqliteStore, path: Path
) -> None:
    path.rename(path.with_name("moved.db"))
    with pytest.raises(StoreFenced):
        await store.check()
    await store.stop()
    with pytest.raises(StoreError, match="is not there any more; put it back"):
        await store.start()
    assert not path.exists()
    path.with_name("moved.db").rename(path)
    await store.start()
    assert await store.get_run("r") == make_run()


async def test_a_journal_that_was_removed_is_noticed_and_its_content_saved(
    store: SqliteStore, path: Path
) -> None:
    path.with_name("runs.db-wal").unlink()
    await is_given_up(store, "-wal was removed while it was in use. All that was acknowledged was")
    assert "r" in run_ids_in(path)
    await store.stop()
    await store.start()
    assert await store.get_run("r") == make_run()
    assert await store.commit(batch_of(make_run("next"))) == []
    assert "next" in run_ids_in(path)


async def test_a_journal_that_was_removed_is_noticed_by_who_asks(
    store: SqliteStore, path: Path
) -> None:
    path.with_name("runs.db-wal").unlink()
    path.with_name("runs.db-shm").unlink()
    with pytest.raises(StoreFenced, match="-wal was removed"):
        await store.check()
    assert run_ids_in(path) == ["r"]


@pytest.mark.parametrize("umask", [0o000, 0o022])
async def test_new_files_are_for_their_owner_alone(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = SqliteStore(path)
        await store.start()
        await store.commit(batch_of(make_run()))
        found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        await store.stop()
    finally:
        os.umask(before)
    names = ("runs.db", "runs.db-shm", "runs.db-wal", "runs.db.lock")
    assert found == dict.fromkeys(names, 0o600)


async def test_the_mode_of_a_file_that_is_there_stays(path: Path) -> None:
    path.touch(0o640)
    path.chmod(0o640)
    store = SqliteStore(path)
    await store.start()
    await store.stop()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
