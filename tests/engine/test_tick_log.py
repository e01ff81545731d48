"""Snapshots are taken when they are worth it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import StepWorkerWaiter
from workflows.runtime.types.ticks import TickIdleCheck

from workflow_server.app.engine.tick_log import TickLog
from workflow_server.app.engine.values.codec import Codec


class Once(Workflow):
    @step
    async def end(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


class Counting:
    """A journal that counts snapshots."""

    snapshots = 0
    keeps_history = is_base_due = False

    def add_tick(self, tick: bytes) -> None: ...

    def keep_tick(self, tick: bytes) -> None: ...

    def keep_base(self, snapshot: bytes, encode_state: Callable[[], bytes | None]) -> None: ...

    def set_snapshot(self, snapshot: bytes) -> None:
        self.snapshots += 1

    def add_payloads(self, payloads: Iterable[tuple[int, bytes]]) -> None: ...

    def drop_payloads(self, numbers: Sequence[int]) -> None: ...


def make_broker(*, timed_out: bool) -> BrokerState:
    """Return a run's state, with a waiter that has timed out or is open."""
    broker = BrokerState.from_workflow(Once())
    waiter = StepWorkerWaiter(
        waiter_id="w",
        event=StartEvent(),
        waiting_for_event=StopEvent,
        requirements={},
        has_requirements=False,
        resolved_event=None,
    )
    worker = next(iter(broker.workers.values()))
    worker.collected_waiters.append(replace(waiter, timed_out=timed_out))
    return broker


def count_tries(log: TickLog, broker: BrokerState, ticks: int) -> int:
    """Return how often a snapshot was tried in so many ticks."""
    tries = 0
    for _ in range(ticks):
        log.add(TickIdleCheck())
        if log.is_snapshot_due:
            log.put_snapshot(log.encode_snapshot(broker, (), lambda: None))
            tries += 1
    return tries


def test_a_snapshot_that_cannot_be_taken_is_tried_again_ever_more_rarely() -> None:
    log = TickLog(Counting(), Codec())
    assert count_tries(log, make_broker(timed_out=True), 10_000) == 7


def test_after_one_that_could_not_be_taken_the_next_one_is_tried_as_soon_as_ever() -> None:
    journal = Counting()
    log = TickLog(journal, Codec())
    count_tries(log, make_broker(timed_out=True), 150)
    count_tries(log, make_broker(timed_out=False), 50)
    count_tries(log, make_broker(timed_out=False), 1_000)
    assert journal.snapshots == 11
