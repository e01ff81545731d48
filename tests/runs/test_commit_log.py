"""Batches of the commit log: how large they are, in which order, and what cannot be written."""

import asyncio
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from tests.support.records import make_record
from tests.support.stores import ScriptedStore
from tests.support.waiting import until
from workflow_server.app.engine.outcome import Outcome
from workflow_server.app.runs.commit_log import BATCH_BYTES, CommitLog
from workflow_server.app.runs.journal import RunJournal
from workflow_server.app.streams.tail import EventTail
from workflow_server.schemas.records import Batch, EndedHandler, Status
from workflow_server.stores.base import StoreError, StoreUnavailable

RUNS = 24
LARGE = 1 << 20
POISON = b'"poison"'
ERRORS = {
    "of the store": StoreError("what was given cannot be written"),
    "as if it were away": StoreUnavailable("the connection was lost"),
    "of a driver": sqlite3.DataError("string or blob too big"),
    "of the language": OverflowError("Python int too large to convert to SQLite INTEGER"),
}


class Poisoned(ScriptedStore):
    """Cannot write a batch with a certain event."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception = StoreError("not written")

    async def commit(self, batch: Batch) -> Collection[str]:
        if any(event.envelope == POISON for event in batch.events):
            self.tries += 1
            raise self.error
        return await super().commit(batch)


@pytest.fixture
def store() -> Poisoned:
    """Return the store that the log writes to."""
    return Poisoned()


@pytest.fixture
async def journals(log: CommitLog) -> Sequence[RunJournal]:
    """Return journals of runs that are committed."""
    opened = [open_journal(f"r{number:02}", log) for number in range(RUNS)]
    for journal in opened:
        journal.set_record(journal.record)
    for journal in opened:
        await journal.wait_committed()
    return opened


def open_journal(run_id: str, log: CommitLog) -> RunJournal:
    """Return a journal of a run that ends where the store refuses it."""

    def end() -> None:
        ended = Outcome(Status.FAILED, b"{}", "it cannot be written")
        journal.end(ended, now=journal.record.started_at)

    journal = RunJournal(
        make_record(run_id),
        log,
        tail=EventTail(),
        on_committed=lambda _record: None,
        on_failed=lambda: None,
        on_refused=end,
        on_lost=lambda: None,
    )
    return journal


def add_event(journal: RunJournal, envelope: bytes = b"{}") -> None:
    """Write down an event."""
    journal.add_event(envelope, internal=False, emitted_at=0)


def runs_of(batch: Batch) -> list[str]:
    """Return the runs of which a batch has events, in order."""
    return list(dict.fromkeys(event.run_id for event in batch.events))


async def test_a_batch_is_cut_where_it_is_large_and_the_oldest_come_first(
    store: Poisoned, journals: Sequence[RunJournal]
) -> None:
    commits, tries = len(store.commits), store.tries
    store.open.clear()
    add_event(journals[0])
    await until(lambda: store.tries > tries)
    for journal in reversed(journals):
        add_event(journal, b"x" * LARGE)
    add_event(journals[-1], b"x")
    store.open.set()
    for journal in journals:
        await journal.wait_committed()
    batches = store.commits[commits + 1 :]
    sizes = [sum(len(event.envelope) for event in batch.events) for batch in batches]
    written = [run_id for batch in batches for run_id in runs_of(batch)]
    assert written == [journal.record.run_id for journal in reversed(journals)]
    assert max(sizes) <= BATCH_BYTES + LARGE
    assert len(batches) == RUNS * LARGE // BATCH_BYTES


@pytest.mark.parametrize("kind", ERRORS)
async def test_what_cannot_be_written_is_found_by_halving_and_harms_its_run_alone(
    store: Poisoned, log: CommitLog, journals: Sequence[RunJournal], kind: str
) -> None:
    store.error, tries = ERRORS[kind], store.tries
    for journal in journals:
        add_event(journal)
    guilty = journals[RUNS // 3]
    add_event(guilty, POISON)
    for journal in journals:
        await journal.wait_committed()
    taken = store.tries - tries
    await until(lambda: log.healthy and guilty.is_committed)
    record = await store.get_run(guilty.record.run_id)
    events = await store.read_events(guilty.record.run_id, after=-1, limit=9)
    assert [journal for journal in journals if journal.is_failed] == [guilty]
    assert {journal.tail.last for journal in journals} == {0}
    assert record is not None
    assert (record.status, [event.envelope for event in events]) == (Status.FAILED, [b"{}"])
    assert taken < RUNS / 2 + 4


async def test_several_that_cannot_be_written_harm_nobody_else(
    store: Poisoned, journals: Sequence[RunJournal]
) -> None:
    for number, journal in enumerate(journals):
        add_event(journal, POISON if number % 5 == 0 else b"{}")
    for journal in journals:
        await journal.wait_committed()
    assert [journal.is_refused for journal in journals] == [
        number % 5 == 0 for number in range(RUNS)
    ]


async def test_a_store_that_is_away_is_not_asked_for_each_run(
    store: Poisoned, log: CommitLog, journals: Sequence[RunJournal]
) -> None:
    tries = store.tries
    store.down = True
    for journal in journals:
        add_event(journal)
    await asyncio.gather(*(journal.wait_committed() for journal in journals))
    taken = store.tries - tries
    store.down = False
    await until(lambda: log.healthy)
    assert taken == 1
    assert [journal.is_refused for journal in journals] == [False] * RUNS
    assert {journal.tail.last for journal in journals} == {0}


async def test_the_state_from_which_a_run_goes_on_outlives_that_it_cannot_be_written(
    store: Poisoned, log: CommitLog, journals: Sequence[RunJournal]
) -> None:
    before = journals[0]
    before.set_state(b"state")
    before.end(Outcome(Status.COMPLETED, b"{}"), now=before.record.started_at)
    await before.wait_committed()
    journal = open_journal("later", log)
    journal.open_unit()
    journal.set_record(
        replace(journal.record, handler_id=before.record.handler_id),
        superseded=replace(before.record, current=False),
    )
    journal.set_state(b"state")
    add_event(journal, POISON)
    journal.close_unit()
    await until(lambda: journal.is_refused and journal.is_committed)
    state = await store.get_state("later")
    assert state is not None
    assert state.state == b"state"


async def test_purges_that_come_together_are_written_in_batches(
    store: Poisoned, log: CommitLog, journals: Sequence[RunJournal]
) -> None:
    for journal in journals:
        journal.end(Outcome(Status.COMPLETED, b"{}"), now=journal.record.started_at)
        await journal.wait_committed()
    for journal in journals:
        await log.purge(EndedHandler(journal.record.key, journal.record.run_id))
    assert await store.get_run("r00") is None
