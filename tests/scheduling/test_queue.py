"""`RunQueue`: which run begins next, and how many are at work at once."""

import asyncio
import weakref
from datetime import datetime, timedelta

import pytest
from workflows import Workflow

from tests.support.records import NOON
from tests.support.workflows import Greeter
from workflow_server.app.catalog import Catalog
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import TooManyRuns
from workflow_server.app.runs.slots import Slot
from workflow_server.app.scheduling.queue import FEW, RunQueue
from workflow_server.app.settings import Limits


def serve(workflow: Workflow, name: str = "it") -> ServedWorkflow:
    """Return a workflow as it is served."""
    catalog = Catalog()
    catalog.add(name, workflow)
    return catalog.find(name)


IT = serve(Greeter())
OTHER = serve(Greeter(), "other")
ALONE = serve(Greeter(num_concurrent_runs=1), "alone")


def make_queue(*, is_open: bool = True, **limits: int) -> RunQueue:
    """Return a queue, open if not said else."""
    queue = RunQueue(Limits.model_validate(limits), clock=lambda: NOON)
    if is_open:
        queue.open()
    return queue


async def test_runs_begin_in_the_order_of_acceptance_not_of_arrival() -> None:
    queue = make_queue(max_runs=1)
    first = queue.take(IT, 1)
    late, early, middle = (queue.take(IT, accepted) for accepted in (9, 2, 5))
    begun = []
    at_work = first
    for _ in range(3):
        at_work.release()
        [at_work] = [slot for slot in (late, early, middle) if slot.counts]
        begun.append(at_work.accepted)
    assert (begun, queue.pending) == ([2, 5, 9], 0)


async def test_the_order_is_the_same_for_all_workflows() -> None:
    queue = make_queue(max_runs=1)
    first = queue.take(IT, 1)
    second, third = queue.take(OTHER, 3), queue.take(IT, 2)
    first.release()
    assert (third.is_pending, second.is_pending) == (False, True)


async def test_a_run_that_has_its_slot_does_not_wait() -> None:
    slot = make_queue(max_runs=1).take(IT, 1)
    await slot.wait()
    assert (slot.is_pending, slot.counts, slot.counts_for_workflow) == (False, True, True)


async def test_a_run_that_waits_goes_on_when_it_gets_its_slot() -> None:
    queue = make_queue(max_runs=1)
    first, second = queue.take(IT, 1), queue.take(IT, 2)
    waiting = asyncio.create_task(second.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.release()
    await waiting
    assert second.counts


async def test_nothing_new_begins_before_the_queue_is_opened() -> None:
    queue = make_queue(is_open=False, max_runs=2)
    new = queue.take(IT, 2)
    assert (new.is_pending, queue.pending) == (True, 1)
    queue.open()
    assert (new.is_pending, queue.pending) == (False, 0)


async def test_earlier_runs_begin_before_the_queue_is_opened_and_before_new_ones() -> None:
    queue = make_queue(is_open=False, max_runs=2)
    new = queue.take(IT, 3)
    at_work, queued, rest = (queue.take(IT, accepted, earlier=True) for accepted in (0, 1, 2))
    before = [slot.counts for slot in (at_work, queued, rest, new)]
    queue.open()
    at_work.release()
    after = [slot.counts for slot in (queued, rest, new)]
    assert before == [True, True, False, False]
    assert after == [True, True, False]


async def test_an_earlier_run_does_not_overtake_another_where_a_slot_becomes_free() -> None:
    queue = make_queue(is_open=False, max_runs=1)
    first, second = queue.take(IT, 0, earlier=True), queue.take(IT, 1, earlier=True)
    first.release()
    third = queue.take(IT, 2, earlier=True)
    queue.open()
    assert (second.counts, third.counts) == (True, False)


async def test_nothing_begins_once_the_queue_is_closed() -> None:
    queue = make_queue(max_runs=1)
    first, second = queue.take(IT, 1), queue.take(IT, 2)
    queue.close()
    first.release()
    assert (second.is_pending, second.counts) == (True, False)


async def test_a_started_queue_is_empty_and_closed() -> None:
    queue = make_queue(max_runs=1)
    queue.take(IT, 1)
    queue.take(IT, 2)
    queue.keep_slots("alone", 1)
    queue.start()
    assert queue.pending == 0
    assert queue.take(IT, 3).is_pending
    queue.open()
    assert not queue.take(ALONE, 4, earlier=True).counts  # the server's one slot is taken by now


async def test_a_resting_run_of_a_workflow_without_a_limit_of_its_own_keeps_no_slot() -> None:
    queue = make_queue(max_runs=1, max_runs_per_workflow=1)
    first = queue.take(IT, 1)
    keeps = first.rest()
    assert (keeps, first.counts, first.counts_for_workflow) == (False, False, False)
    assert queue.take(IT, 2).counts


async def test_a_resting_run_keeps_the_slot_of_a_workflow_that_limits_whole_runs() -> None:
    queue = make_queue(max_runs=2)
    first = queue.take(ALONE, 1)
    keeps = first.rest()
    second, other = queue.take(ALONE, 2), queue.take(IT, 3)
    first.go_on()
    first.release()
    assert (keeps, second.counts, other.counts) == (True, True, True)


async def test_a_run_goes_on_where_there_is_no_room_and_counts_again() -> None:
    queue = make_queue(max_runs=1)
    first = queue.take(IT, 1)
    first.rest()
    second = queue.take(IT, 2)
    first.go_on()
    third = queue.take(IT, 3)
    second.release()
    between = third.counts
    first.release()
    assert (between, third.counts) == (False, True)


async def test_slots_that_waiting_runs_of_an_earlier_life_keep_are_counted() -> None:
    queue = make_queue()
    queue.keep_slots("alone", 1)
    waiting = queue.take_resting(ALONE, 1, counts=True)
    new = queue.take(ALONE, 2)
    pending = new.is_pending
    waiting.go_on()
    waiting.release()
    assert (pending, new.is_pending) == (True, False)


async def test_a_slot_that_is_released_twice_is_released_once() -> None:
    queue = make_queue(max_runs=1)
    first = queue.take(IT, 1)
    first.release()
    first.release()
    assert [queue.take(IT, 2).counts, queue.take(IT, 3).counts] == [True, False]


async def test_a_run_that_is_cancelled_while_it_is_queued_makes_room_for_the_next() -> None:
    queue = make_queue(max_runs=1)
    first, second, third = (queue.take(IT, accepted) for accepted in (1, 2, 3))
    second.release()
    pending = queue.pending
    first.release()
    assert (pending, queue.pending, second.counts, third.counts) == (1, 0, False, True)


async def test_a_slot_can_be_released_in_the_moment_in_which_a_queued_run_is_cancelled() -> None:
    queue = make_queue(max_runs=1)
    first, second, third = (queue.take(IT, accepted) for accepted in (1, 2, 3))
    waiting = asyncio.create_task(second.wait())
    waiting.add_done_callback(lambda _: second.release())
    await asyncio.sleep(0)
    waiting.cancel()
    first.release()
    await asyncio.wait({waiting})
    await asyncio.sleep(0)
    assert (second.counts, third.counts) == (False, True)


def take_and_release(queue: RunQueue, accepted: int) -> "weakref.ref[Slot]":
    """Take a slot and wait for it no longer; return a weak reference to it."""
    slot = queue.take(IT, accepted)
    slot.release()
    return weakref.ref(slot)


async def test_runs_that_are_cancelled_while_they_are_queued_leave_nothing_behind() -> None:
    queue = make_queue(max_runs=1)
    first, second = queue.take(IT, 1), queue.take(IT, 2)
    cancelled = [take_and_release(queue, accepted) for accepted in range(3, 1_003)]
    assert sum(slot() is not None for slot in cancelled) <= FEW + 2
    first.release()
    assert (second.counts, queue.pending) == (True, 0)


async def test_a_workflow_that_is_full_does_not_hold_up_another() -> None:
    queue = make_queue(max_runs=3, max_runs_per_workflow=1)
    slots = [queue.take(IT, 1), queue.take(IT, 2), queue.take(OTHER, 3)]
    assert [slot.counts for slot in slots] == [True, False, True]


async def test_a_run_too_many_is_refused_unless_it_can_begin_at_once() -> None:
    queue = make_queue(max_runs=2, max_runs_per_workflow=1, max_pending_runs=1)
    queue.take(IT, 1)
    queue.take(IT, 2)
    queue.check_room(OTHER)
    with pytest.raises(TooManyRuns):
        queue.check_room(IT)


async def test_a_run_too_many_is_refused_while_the_queue_is_closed() -> None:
    queue = make_queue(is_open=False, max_pending_runs=0)
    with pytest.raises(TooManyRuns):
        queue.check_room(IT)


def test_each_acceptance_is_later_than_the_one_before_whatever_the_clock_says() -> None:
    times = iter([NOON, NOON, NOON - timedelta(days=1), NOON + timedelta(days=1)])

    def clock() -> datetime:
        return next(times)

    queue = RunQueue(Limits(), clock=clock)
    accepted = [queue.count_acceptance() for _ in range(4)]
    assert accepted == sorted(set(accepted))


def test_an_acceptance_is_later_than_all_of_an_earlier_life() -> None:
    queue = make_queue()
    earlier = make_queue().count_acceptance() + 5
    queue.go_on_after(earlier)
    queue.go_on_after(0)
    assert queue.count_acceptance() == earlier + 1
