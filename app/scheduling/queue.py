"""The queue: the order in which runs begin, and the limits on runs at work.

A run takes a slot before it begins and gives it back at its end. Where there is no room it waits,
and the one that was accepted first begins first, after a restart too. While a run waits for an
event or a timer it holds no slot, and another one may begin. An event from outside lets it go on
at once, even where there is no room, and it counts again.
"""

import asyncio
import heapq
from collections import Counter
from itertools import count

from workflow_server.app.clocks import Clock
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import TooManyRuns
from workflow_server.app.runs.slots import Slot
from workflow_server.app.settings import Limits
from workflow_server.schemas.times import to_micros

# Whether a run has yet to begin, its place in the order of acceptance, and what tells equals apart.
Entry = tuple[bool, int, int, Slot]

FEW = 64  # slots that nobody waits for, and that may stay in the queue


class RunQueue:
    """The slots of all runs of one server.

    Until it is opened, only runs of an earlier life of the server begin, so that none that is
    accepted now overtakes them.
    """

    def __init__(self, limits: Limits, *, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._arrivals = count()
        self._last_accepted = 0
        self._of_workflow: Counter[str] = Counter()
        self._waiting: dict[str, list[Entry]] = {}
        self.start()

    def start(self) -> None:
        """Begin with no slot taken, and not open yet."""
        self._at_work = 0
        self._of_workflow.clear()
        self._waiting.clear()
        self.is_open, self._is_closed = False, False
        self.pending = 0

    def count_acceptance(self) -> int:
        """Return the place of a run that is accepted now in the order of acceptance.

        It is about the time in microseconds since the epoch, so that it goes on over restarts, and
        is greater than every one before, whatever the clock says.
        """
        self._last_accepted = max(self._last_accepted + 1, to_micros(self._clock()))
        return self._last_accepted

    def go_on_after(self, accepted: int) -> None:
        """Count on from the last place that an earlier life of the server has given."""
        self._last_accepted = max(self._last_accepted, accepted)

    def open(self) -> None:
        """Let runs begin that are accepted now, too."""
        self.is_open = not self._is_closed
        self._grant_all()

    def close(self) -> None:
        """Let no run begin any more: the server is about to stop."""
        self.is_open, self._is_closed = False, True

    def keep_slots(self, workflow: str, slots: int) -> None:
        """Count the slots of a workflow that its waiting runs hold, which are not in memory."""
        self._of_workflow[workflow] += slots

    def give_back(self, workflow: str) -> None:
        """Free the slot that `keep_slots` counted, of a waiting run that will not be restored."""
        self._of_workflow[workflow] -= 1
        self._grant_all()

    def check_room(self, workflow: ServedWorkflow) -> None:
        """Raise `TooManyRuns` where a new run would have to wait, and too many wait already."""
        can_begin = self.is_open and self.has_room(workflow)
        if self.pending >= self._limits.max_pending_runs and not can_begin:
            raise TooManyRuns(
                f"{self.pending} runs are queued already, which is the maximum; start the run"
                " again later."
            )

    def take(
        self,
        workflow: ServedWorkflow,
        accepted: int,
        *,
        run_id: str = "",
        earlier: bool = False,
        has_begun: bool = False,
    ) -> Slot:
        """Return the slot of a run, which may have to be waited for.

        `earlier` is for a run of an earlier life of the server. Runs that had begun in it, and so
        had a slot, come before all others.
        """
        slot = Slot(self, workflow, accepted, run_id=run_id, earlier=earlier)
        if not self._waiting and not self._is_closed and self._can_begin(slot):
            self.enter(slot)
            return slot
        self._push(self._put_off(slot, has_begun=has_begun))
        self._grant_all()
        return slot

    def _put_off(self, slot: Slot, *, has_begun: bool) -> Entry:
        """Let a slot be waited for; return its place among others."""
        slot.granted = asyncio.get_running_loop().create_future()
        self.pending += 1
        return not has_begun, slot.accepted, next(self._arrivals), slot

    def _push(self, entry: Entry) -> None:
        heapq.heappush(self._waiting.setdefault(entry[-1].workflow.name, []), entry)

    def claim(self, slot: Slot) -> None:
        """Let a run of an earlier life begin before the queue is open.

        It took its slot when an event or a cancel restored it, before it was claimed.
        """
        slot.earlier = True
        self._grant_all()

    def take_resting(
        self, workflow: ServedWorkflow, accepted: int, *, counts: bool, run_id: str = ""
    ) -> Slot:
        """Return the slot of a waiting run that is restored: it holds none of the server.

        `counts` says that it holds one of its workflow, which `keep_slots` has counted already.
        """
        slot = Slot(self, workflow, accepted, run_id=run_id)
        slot.counts_for_workflow = counts
        return slot

    def enter(self, slot: Slot) -> None:
        """Count a run that is at work."""
        if not slot.counts:
            slot.counts = True
            self._at_work += 1
        if not slot.counts_for_workflow:
            slot.counts_for_workflow = True
            self._of_workflow[slot.workflow.name] += 1

    def leave(self, slot: Slot, *, for_workflow: bool) -> None:
        """Count a run no longer, and let others begin in its place."""
        if slot.granted is not None:
            slot.granted = None
            self.pending -= 1
            self._drop_given_up()
        if slot.counts:
            slot.counts = False
            self._at_work -= 1
        if for_workflow and slot.counts_for_workflow:
            slot.counts_for_workflow = False
            self._of_workflow[slot.workflow.name] -= 1
        self._grant_all()

    @property
    def room(self) -> int:
        """The number of runs that may be taken in and begin, of workflows that have room."""
        return max(self._limits.max_runs - self._at_work - self.pending, 0)

    def has_room(self, workflow: ServedWorkflow) -> bool:
        """Return whether one more run of a workflow may be at work."""
        return self._count_room(workflow, workflow.concurrent_runs) > 0

    def _count_room(self, workflow: ServedWorkflow, limit: int | None) -> int:
        """Return how many more runs of a workflow may be at work; `limit` is its own, if any."""
        most = self._limits.max_runs_per_workflow or self._limits.max_runs
        if limit is not None:
            most = min(most, limit)
        return min(self._limits.max_runs - self._at_work, most - self._of_workflow[workflow.name])

    def _can_begin(self, slot: Slot) -> bool:
        return (self.is_open or slot.earlier) and self.has_room(slot.workflow)

    def _grant_all(self) -> None:
        while self._waiting and not self._is_closed:
            slot = self._pop_first()
            if slot is None:
                return
            granted, slot.granted = slot.granted, None
            self.pending -= 1
            self.enter(slot)
            if granted is not None:
                granted.set_result(None)

    def _drop_given_up(self) -> None:
        """Forget the slots that nobody waits for any more, once they are most of the queue."""
        if sum(map(len, self._waiting.values())) <= 2 * self.pending + FEW:
            return
        for name, waiting in list(self._waiting.items()):
            waiting[:] = [entry for entry in waiting if not entry[-1].is_given_up]
            heapq.heapify(waiting)
            if not waiting:
                del self._waiting[name]

    def _pop_first(self) -> Slot | None:
        """Return the slot that was accepted first of those for which there is room, if any."""
        first: Entry | None = None
        for name in list(self._waiting):
            waiting = self._waiting[name]
            while waiting and waiting[0][-1].is_given_up:
                heapq.heappop(waiting)
            if not waiting:
                del self._waiting[name]
            elif self._can_begin(waiting[0][-1]) and (first is None or waiting[0] < first):
                first = waiting[0]
        if first is None:
            return None
        heapq.heappop(self._waiting[first[-1].workflow.name])
        return first[-1]
