"""The journal and the commit log: units, order, room, and the waiting for a commit."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.support.stores import ScriptedStore
from tests.support.waiting import until
from workflow_server.app.engine.outcome import Outcome
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.journal import MAX_UNCOMMITTED_BYTES, RunJournal
from workflow_server.app.streams.tail import EventTail
from workflow_server.schemas.records import RunRecord, Status

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
RUN = RunRecord(
    run_id="r",
    handler_id="h",
    handler_created_at=NOON,
    workflow_name="w",
    started_at=NOON,
    updated_at=NOON,
)


@pytest.fixture
def store() -> ScriptedStore:
    """Return the store that the log writes to."""
    return ScriptedStore()


@pytest.fixture
async def journal(log: CommitLog) -> RunJournal:
    """Return a journal whose run is committed."""
    return await open_journal(RUN, log)


async def open_journal(run: RunRecord, log: CommitLog) -> RunJournal:
    """Return a journal of a run, which is committed."""
    journal = RunJournal(
        run,
        log,
        tail=EventTail(),
        on_committed=lambda _record: None,
        on_failed=lambda: None,
        on_refused=lambda: None,
        on_lost=lambda: None,
    )
    journal.set_record(run)
    await journal.wait_committed()
    return journal


async def read_ticks(store: ScriptedStore) -> list[bytes]:
    """Return the ticks that the store has of the run."""
    return [record.tick for record in (await store.read_ticks("r", after=-1, limit=9)).ticks]


async def test_what_is_written_down_is_committed(journal: RunJournal, store: ScriptedStore) -> None:
    journal.add_event(b"{}", internal=False, emitted_at=0)
    journal.add_tick(b"[]")
    await journal.wait_committed()
    assert [event.envelope for event in await store.read_events("r", after=-1, limit=9)] == [b"{}"]
    assert await read_ticks(store) == [b"[]"]


async def test_events_are_numbered_in_the_order_in_which_they_came(journal: RunJournal) -> None:
    assert [journal.add_event(b"{}", internal=False, emitted_at=0) for _ in range(3)] == [0, 1, 2]


async def test_an_open_unit_is_held_back_until_it_is_closed(
    journal: RunJournal, log: CommitLog, store: ScriptedStore
) -> None:
    journal.open_unit()
    journal.add_event(b"{}", internal=False, emitted_at=0)
    log.touch(journal)
    commits = len(store.commits)
    await until(lambda: len(store.commits) > commits)
    held_back = await store.next_sequence("r")
    journal.add_tick(b"[]")
    journal.close_unit()
    await journal.wait_committed()
    assert (held_back, await store.next_sequence("r")) == (0, 1)


async def test_who_waits_for_a_unit_that_is_cut_off_is_told(journal: RunJournal) -> None:
    journal.open_unit()
    journal.add_tick(b"[]")
    waiting = asyncio.create_task(journal.wait_committed())
    await asyncio.sleep(0)
    journal.cut_off(ValueError("stopped"))
    with pytest.raises(ValueError, match="stopped"):
        await waiting


async def test_an_open_unit_holds_back_nothing_before_it(
    journal: RunJournal, store: ScriptedStore
) -> None:
    journal.add_event(b"{}", internal=False, emitted_at=0)
    journal.open_unit()
    journal.add_tick(b"[]")
    await until(lambda: journal.tail.last == 0)
    held_back = await read_ticks(store)
    journal.close_unit()
    await journal.wait_committed()
    assert (held_back, await read_ticks(store)) == ([], [b"[]"])


async def test_a_unit_is_committed_whole(journal: RunJournal, store: ScriptedStore) -> None:
    journal.open_unit()
    journal.add_tick(b"[]")
    journal.add_event(b"{}", internal=False, emitted_at=0)
    journal.set_state(b"state")
    journal.close_unit()
    await journal.wait_committed()
    batch = store.commits[-1]
    assert (len(batch.ticks), len(batch.events), len(batch.states)) == (1, 1, 1)


async def test_the_tail_shows_what_is_committed_and_nothing_else(
    journal: RunJournal, store: ScriptedStore
) -> None:
    store.open.clear()
    journal.add_event(b"{}", internal=False, emitted_at=0)
    tries = store.tries
    await until(lambda: store.tries > tries)
    before = journal.tail.last
    store.open.set()
    await journal.wait_committed()
    assert (before, journal.tail.last) == (-1, 0)


async def test_emitting_waits_for_room_when_too_much_is_uncommitted(
    journal: RunJournal, store: ScriptedStore
) -> None:
    store.open.clear()
    tries = store.tries
    journal.add_event(b"x" * (MAX_UNCOMMITTED_BYTES + 1), internal=False, emitted_at=0)
    emitting = asyncio.create_task(journal.wait_for_room())
    await until(lambda: store.tries > tries)
    waiting = emitting.done()
    store.open.set()
    await emitting
    assert waiting is False
    assert await store.next_sequence("r") == 1


async def test_there_is_room_while_little_is_uncommitted(
    journal: RunJournal, store: ScriptedStore
) -> None:
    store.open.clear()
    journal.add_event(b"x" * MAX_UNCOMMITTED_BYTES, internal=False, emitted_at=0)
    async with asyncio.timeout(60):
        await journal.wait_for_room()


async def test_what_comes_while_a_batch_commits_goes_in_the_next(
    journal: RunJournal, store: ScriptedStore
) -> None:
    store.open.clear()
    tries = store.tries
    journal.add_event(b"{}", internal=False, emitted_at=0)
    await until(lambda: store.tries > tries)
    for _ in range(100):
        journal.add_event(b"{}", internal=False, emitted_at=0)
    store.open.set()
    await journal.wait_committed()
    assert [len(batch.events) for batch in store.commits[-2:]] == [1, 100]


async def test_a_failed_batch_is_committed_once_and_in_order_when_the_store_is_back(
    journal: RunJournal, log: CommitLog, store: ScriptedStore
) -> None:
    store.failures = 1
    journal.add_event(b"1", internal=False, emitted_at=0)
    await journal.wait_committed()
    failed = (journal.is_failed, log.healthy)
    journal.add_event(b"2", internal=False, emitted_at=0)
    await until(lambda: log.healthy)
    events = await store.read_events("r", after=-1, limit=9)
    assert failed == (True, False)
    assert [event.envelope for event in events] == [b"1", b"2"]


async def test_a_record_that_cannot_be_written_harms_no_other_run(
    journal: RunJournal, log: CommitLog, store: ScriptedStore
) -> None:
    other = await open_journal(replace(RUN, run_id="o", handler_id="o"), log)
    store.refused = "o"
    other.add_event(b"refused", internal=False, emitted_at=0)
    journal.add_event(b"{}", internal=False, emitted_at=0)
    await journal.wait_committed()
    assert (other.is_failed, journal.is_failed, journal.tail.last) == (True, False, 0)
    assert await store.next_sequence("r") == 1


async def test_the_journal_of_a_run_that_has_ended_is_not_kept(
    journal: RunJournal, store: ScriptedStore
) -> None:
    journal.add_tick(b"[]")
    journal.end(Outcome(Status.COMPLETED, b"{}"), now=NOON)
    await journal.wait_committed()
    assert await read_ticks(store) == []


async def test_stopping_commits_what_is_written_down(
    store: ScriptedStore, log: CommitLog, journal: RunJournal
) -> None:
    journal.add_event(b"{}", internal=False, emitted_at=0)
    await log.stop()
    assert await store.next_sequence("r") == 1
