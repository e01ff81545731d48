"""The phases of a run: the table of moves, and the records that a move leaves."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from tests.support.records import NOON, make_record
from workflow_server.app.runs import phase
from workflow_server.app.runs.phase import MOVES
from workflow_server.schemas.records import Idle, Phase, Question, RunRecord, Status

LATER = NOON + timedelta(seconds=5)
DUE = NOON + timedelta(minutes=1)
IDLE = Idle(since=NOON, wake_at=DUE)

# What leads into each phase.
INTO: dict[Phase, Callable[[RunRecord], RunRecord]] = {
    Phase.QUEUED: phase.queue,
    Phase.WORKING: phase.work,
    Phase.WAITING: lambda record: phase.wait(record, IDLE, due_at=DUE, slot=True),
    Phase.HELD: lambda record: phase.hold(record, "its workflow is gone", now=LATER),
    Phase.ENDED: lambda record: phase.end(record, Status.FAILED, now=LATER, error="it broke"),
}

# A record as it stands in each phase.
STANDING: dict[Phase, RunRecord] = {
    Phase.QUEUED: make_record(),
    Phase.WORKING: make_record(phase=Phase.WORKING, slot=True),
    Phase.WAITING: make_record(phase=Phase.WAITING, slot=True, idle=IDLE, due_at=DUE),
    Phase.HELD: make_record(phase=Phase.HELD, held_because="its journal does not fit", idle=IDLE),
    Phase.ENDED: make_record(phase=Phase.ENDED, status=Status.COMPLETED, completed_at=NOON),
}

EXPECTED = {
    Phase.QUEUED: {Phase.WORKING, Phase.HELD, Phase.ENDED},
    Phase.WORKING: {Phase.WORKING, Phase.WAITING, Phase.QUEUED, Phase.HELD, Phase.ENDED},
    Phase.WAITING: {Phase.WAITING, Phase.WORKING, Phase.HELD, Phase.ENDED},
    Phase.HELD: set(Phase),
    Phase.ENDED: set[Phase](),
}
PAIRS = list(product(Phase, Phase))
MADE = [pair for pair in PAIRS if pair[1] in EXPECTED[pair[0]]]
NOT_MADE = [pair for pair in PAIRS if pair[1] not in EXPECTED[pair[0]]]


def is_consistent(record: RunRecord) -> bool:
    """Return whether a record has what belongs to its phase, and nothing of another one."""
    is_ended, is_held = record.phase is Phase.ENDED, record.phase is Phase.HELD
    is_working, is_waiting = record.phase is Phase.WORKING, record.phase is Phase.WAITING
    must = [
        is_ended == (record.status is not Status.RUNNING) == (record.completed_at is not None),
        is_held == (record.held_because is not None),
        record.idle is not None or not is_waiting,
        record.slot or not is_working,
    ]
    may = [
        record.idle is None or is_waiting or is_held,
        record.due_at is None or is_waiting,
        not record.slot or is_working or is_waiting,
        not record.questions or not is_ended,
    ]
    return all(must) and all(may)


def test_the_table_has_these_moves_and_no_others() -> None:
    assert {each: set(moves) for each, moves in MOVES.items()} == EXPECTED


def test_the_records_of_these_tests_are_consistent() -> None:
    assert {each: is_consistent(record) for each, record in STANDING.items()} == dict.fromkeys(
        Phase, True
    )


@pytest.mark.parametrize(("before", "after"), MADE)
def test_a_move_leaves_a_consistent_record(before: Phase, after: Phase) -> None:
    moved = INTO[after](STANDING[before])
    assert moved.phase is after
    assert is_consistent(moved), moved


@pytest.mark.parametrize(("before", "after"), NOT_MADE)
def test_what_is_no_move_is_reported_and_made_all_the_same(before: Phase, after: Phase) -> None:
    with pytest.warns(RuntimeWarning, match=f"from {before} to {after}, which is no move"):
        moved = INTO[after](STANDING[before])
    assert moved.phase is after


@pytest.mark.parametrize(("before", "after"), MADE)
def test_a_move_changes_nothing_of_what_the_run_is(before: Phase, after: Phase) -> None:
    record = replace(STANDING[before], accepted=7, trace="00-aa-bb-01", resumes=2)
    moved = INTO[after](record)
    kept = ("run_id", "key", "accepted", "trace", "resumes", "started_at", "start_event")
    assert [getattr(moved, name) for name in kept] == [getattr(record, name) for name in kept]


def test_a_run_that_waits_has_its_timer_and_says_whether_it_keeps_its_slot() -> None:
    waiting = phase.wait(STANDING[Phase.WORKING], IDLE, due_at=DUE, slot=False)
    assert (waiting.idle, waiting.due_at, waiting.slot) == (IDLE, DUE, False)


def test_a_run_that_is_held_while_it_waits_keeps_what_it_waits_for() -> None:
    asked = replace(STANDING[Phase.WAITING], questions=(Question(sequence=3),))
    held = phase.hold(asked, "its workflow is gone", now=LATER)
    assert (held.idle, held.questions, held.updated_at) == (IDLE, asked.questions, LATER)
    assert (held.held_because, held.due_at, held.slot) == ("its workflow is gone", None, False)


def test_a_run_that_is_at_work_again_may_have_been_resumed_once_more() -> None:
    working = phase.work(STANDING[Phase.WORKING], resumes=3, updated_at=LATER)
    assert (working.resumes, working.updated_at) == (3, LATER)


def test_a_run_that_has_ended_says_when_and_how() -> None:
    asked = replace(STANDING[Phase.WAITING], questions=(Question(sequence=3),))
    ended = phase.end(asked, Status.COMPLETED, now=LATER, result=b"{}", event_count=4)
    assert (ended.status, ended.completed_at, ended.updated_at) == (Status.COMPLETED, LATER, LATER)
    assert (ended.result, ended.event_count, ended.questions) == (b"{}", 4, ())
