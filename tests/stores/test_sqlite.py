"""What only the SQLite store promises: its file, and who may have it."""

import asyncio
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

from tests.app.test_reads import READS
from tests.stores.test_conformance import (
    LARGE,
    batch_of,
    make_events,
    make_run,
    make_ticks,
    read_all,
)
from tests.stores.test_removing import ENDED, make_full
from workflow_server.schemas.listings import HandlerQuery
from workflow_server.schemas.records import (
    Batch,
    EventRecord,
    Phase,
    StateRecord,
)
from workflow_server.stores.base import StoreError, StoreUnavailable
from workflow_server.stores.migrations import load_migrations
from workflow_server.stores.queries import PAGE_BYTES
from workflow_server.stores.rows import DAMAGED
from workflow_server.stores.sqlite import SqliteStore
from workflow_server.stores.sqlite_file import APPLICATION_ID

DAMAGE = slice(20_000, 60_000)  # bytes of the second page to the fourth

HOLDER = """
    import asyncio, sys
    from workflow_server.stores.sqlite import SqliteStore

    async def hold():
        store = SqliteStore(sys.argv[1])
        await store.start()
        print("held", flush=True)
        await asyncio.sleep(3600)

    asyncio.run(hold())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that is not there yet."""
    return tmp_path / "runs.db"


async def make_file(path: Path, batch: Batch) -> None:
    """Write a file as a store leaves it."""
    store = SqliteStore(path)
    await store.start()
    await store.commit(batch)
    await store.stop()


async def refusal_of(store: SqliteStore) -> str:
    """Return the sentence with which a store refuses to start."""
    with pytest.raises(StoreError) as refused:
        await store.start()
    return str(refused.value)


def read(path: Path) -> bytes:
    """Return what a file holds."""
    return path.read_bytes()


def write(path: Path, content: bytes | bytearray) -> None:
    """Make a file hold this."""
    path.write_bytes(content)


def schema_of(path: Path) -> list[tuple[str, str]]:
    """Return the names and definitions of all tables and indexes."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
        )
        return rows.fetchall()


def pragma_of(path: Path, name: str) -> object:
    """Return a setting that the file itself carries."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


async def test_a_second_process_is_refused_with_a_sentence(path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", dedent(HOLDER), str(path), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"held\n"
        assert await refusal_of(SqliteStore(path)) == (
            f"{path} is in use by another process; stop that one, or choose another file with"
            " --store."
        )
    finally:
        process.kill()
        await process.wait()


async def test_the_file_of_a_process_that_was_killed_is_free(path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", dedent(HOLDER), str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    process.kill()
    await process.wait()
    store = SqliteStore(path)
    await store.start()
    await store.stop()


def damage(content: bytearray) -> None:
    """Overwrite the middle of a file."""
    content[DAMAGE] = b"\xff" * len(content[DAMAGE])


def replace_all(content: bytearray) -> None:
    """Make another thing of a file."""
    content[:] = b"This is no database, but somebody's notes.\n" * 100


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(damage, "is damaged"), (replace_all, "is damaged or not a SQLite file")],
)
async def test_a_damaged_file_is_refused_and_left_as_it_is(
    path: Path, spoil: Callable[[bytearray], None], reason: str
) -> None:
    await make_file(path, Batch(runs={"r": make_run()}, ticks=make_ticks(5_000)))
    content = bytearray(read(path))
    spoil(content)
    write(path, content)
    assert reason in await refusal_of(SqliteStore(path))
    assert read(path) == content


async def test_the_file_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (mine)")
    content = read(path)
    assert await refusal_of(SqliteStore(path)) == (
        f"{path} is the file of another program; choose another with --store."
    )
    assert read(path) == content


async def test_a_file_of_a_newer_release_is_refused_and_left_as_it_is(path: Path) -> None:
    await make_file(path, batch_of(make_run()))
    known = len(load_migrations("sqlite"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {known + 1}")
    content = read(path)
    assert await refusal_of(SqliteStore(path)) == (
        f"{path} has schema version {known + 1}, and this release knows versions up to {known};"
        " use the newer release that made it."
    )
    assert read(path) == content


async def test_a_refused_file_can_be_opened_by_others(path: Path) -> None:
    write(path, b"no database" * 1_000)
    await refusal_of(SqliteStore(path))
    write(path, b"")
    store = SqliteStore(path)
    await store.start()
    await store.stop()


@pytest.mark.parametrize("version", range(len(load_migrations("sqlite"))))
async def test_migrating_an_old_file_gives_the_schema_of_a_new_one(
    path: Path, version: int
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for sql in load_migrations("sqlite")[:version]:
            connection.executescript(sql)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    await make_file(path, Batch())
    new = path.with_name("new.db")
    await make_file(new, Batch())
    assert schema_of(path) == schema_of(new)
    assert pragma_of(path, "user_version") == pragma_of(new, "user_version")


async def test_an_event_of_a_file_without_times_has_none(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(load_migrations("sqlite")[0])
        connection.execute("PRAGMA user_version = 1")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(
            "INSERT INTO events (run_id, sequence, internal, envelope) VALUES ('r', 0, 0, x'7b7d')"
        )
        connection.commit()
    store = SqliteStore(path)
    await store.start()
    found = list(await store.read_events("r", after=-1, limit=10))
    await store.stop()
    assert found == [EventRecord("r", 0, b"{}", False, None)]


async def test_the_events_of_an_older_file_stay(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for sql in load_migrations("sqlite")[:3]:
            connection.executescript(sql)
        connection.execute("PRAGMA user_version = 3")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.executemany(
            "INSERT INTO events (run_id, sequence, internal, envelope, emitted_at)"
            " VALUES (?, ?, ?, ?, ?)",
            [("r", 0, 1, b'{"a":"\xc3\xa4"}', 5), ("r", 1, 0, b"{}", None), ("s", 0, 0, b"{}", 0)],
        )
        connection.commit()
    store = SqliteStore(path)
    await store.start()
    found = list(await store.read_events("r", after=-1, limit=10))
    others = list(await store.read_events("s", after=-1, limit=10))
    await store.stop()
    assert found == [
        EventRecord("r", 0, b'{"a":"\xc3\xa4"}', True, 5),
        EventRecord("r", 1, b"{}", False, None),
    ]
    assert others == [EventRecord("s", 0, b"{}", False, 0)]


@pytest.mark.parametrize("kind", LARGE)
async def test_a_page_of_large_events_is_bounded_by_their_bytes(path: Path, kind: str) -> None:
    events = [EventRecord("r", number, LARGE[kind], False) for number in range(40)]
    store = SqliteStore(path)
    await store.start()
    await store.commit(Batch(runs={"r": make_run()}, events=events))
    page = await store.read_events("r", after=-1, limit=1_000)
    assert sum(len(event.envelope) for event in page) <= PAGE_BYTES + len(LARGE[kind])
    assert await read_all(store, "r", limit=1_000) == events
    await store.stop()


@pytest.mark.parametrize("envelopes", ["x'00'", "x'01'", "x'01ffffffff00'", "x'01ff000000ff'"])
async def test_events_that_cannot_be_told_apart_are_an_error_of_their_run_only(
    path: Path, envelopes: str
) -> None:
    store = SqliteStore(path)
    await store.start()
    events = [*make_events(3), *make_events(3, "s")]
    await store.commit(Batch(runs={name: make_run(name) for name in "rs"}, events=events))
    assert store._writer is not None
    await store._writer.call(
        lambda writer: writer.execute(
            f"UPDATE events SET envelopes = {envelopes} WHERE run_id = 'r'"
        )
    )
    with pytest.raises(StoreError, match="The events 0 to 2 of the run r are damaged"):
        await store.read_events("r", after=-1, limit=10)
    assert list(await store.read_events("s", after=-1, limit=10)) == make_events(3, "s")
    await store.stop()


async def test_large_events_take_less_of_the_disk_than_their_bytes(path: Path) -> None:
    events = [EventRecord("r", number, LARGE["prose"], False) for number in range(40)]
    await make_file(path, Batch(runs={"r": make_run()}, events=events))
    assert path.stat().st_size < 40 * len(LARGE["prose"]) * 3 // 4


async def test_the_file_is_in_wal_mode(path: Path) -> None:
    await make_file(path, Batch())
    assert pragma_of(path, "journal_mode") == "wal"


async def test_commits_wait_for_the_disk(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    assert store._writer is not None
    full = await store._writer.call(lambda writer: writer.execute("PRAGMA synchronous").fetchone())
    await store.stop()
    assert full == (2,)


async def test_a_full_disk_is_told_and_what_was_there_stays(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    await store.commit(batch_of(make_run()))
    assert store._writer is not None
    await store._writer.call(lambda writer: writer.execute("PRAGMA max_page_count = 30").fetchone())
    with pytest.raises(StoreUnavailable, match="full"):
        await store.commit(Batch(runs={"s": make_run("s")}, ticks=make_ticks(90_000, "s")))
    assert await store.get_run("r") == make_run()
    assert await store.get_run("s") is None
    await store.commit(batch_of(make_run("t")))
    assert await store.get_run("t") == make_run("t")
    await store.stop()


async def test_a_commit_that_is_cancelled_leaves_the_store_usable(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    commit = asyncio.create_task(
        store.commit(Batch(runs={"r": make_run()}, events=make_events(5_000)))
    )
    await asyncio.sleep(0)
    commit.cancel()
    await asyncio.gather(commit, return_exceptions=True)
    await store.commit(batch_of(make_run("s")))
    assert await store.get_run("s") == make_run("s")
    assert await store.next_sequence("r") in (0, 5_000)
    await store.stop()


async def test_no_statement_walks_over_a_table(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    statements: list[str] = []
    for thread in (store._writer, store._reader):
        assert thread is not None
        await thread.call(lambda opened: opened.set_trace_callback(statements.append))
    for read in READS.values():
        await read(store)
    batch = make_full("r")
    batch.taken["r"] = 0
    batch.dropped = [("r", 0)]
    batch.states["s"] = StateRecord("s", b"state", 3, replaces_changes=True)
    await store.commit(batch)
    await store.commit(
        Batch(
            finished={"r"}, superseded={"r"}, cleared={"s"}, purged=[ENDED], purged_runs=["earlier"]
        )
    )
    await store.stop()
    with closing(sqlite3.connect(path)) as connection:
        steps = [
            row[3]
            for statement in statements
            if statement.startswith(("SELECT", "INSERT", "DELETE"))
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]
    # Of `purged_runs` the first are taken: it has what is about to be removed.
    tables = "|".join(set(count_rows(path)) - {"purged_runs"})
    assert [step for step in steps if re.match(rf"SEARCH ({tables})\b", step)] != []
    assert [step for step in steps if re.match(rf"SCAN ({tables})\b", step)] == []


async def test_purging_leaves_no_row_in_any_table(path: Path) -> None:
    await make_file(path, make_full("r"))
    assert [table for table, rows in count_rows(path).items() if not rows] == ["purged_runs"]
    await make_file(path, Batch(purged=[ENDED]))
    assert [table for table, rows in count_rows(path).items() if rows] == []


def count_rows(path: Path) -> dict[str, int]:
    """Return how many rows each table has that may have rows of runs."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
            " AND name NOT IN ('incarnations', 'sqlite_sequence', 'clock', 'copies')"
        )
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for (table,) in tables.fetchall()
        }


@pytest.mark.parametrize(
    "damage",
    ["status = 'asleep'", "questions = '{'", "phase = 'nowhere'", "due_at = 1 << 62"],
)
async def test_a_row_that_cannot_be_read_is_shown_as_such_among_the_others(
    path: Path, damage: str
) -> None:
    store = SqliteStore(path)
    await store.start()
    await store.commit(batch_of(*(make_run(name, minute=at) for at, name in enumerate("abc"))))
    assert store._writer is not None
    await store._writer.call(
        lambda writer: writer.execute(f"UPDATE runs SET {damage} WHERE run_id = 'b'")
    )
    found = (await store.list_handlers(HandlerQuery(limit=10))).records
    assert [(run.handler_id, run.phase, run.error) for run in found] == [
        ("c", Phase.WORKING, None),
        ("b", Phase.ENDED, DAMAGED),
        ("a", Phase.WORKING, None),
    ]
    await store.stop()
