"""Whose turn it is: how many runs are at work at once, and how many wait until they may begin.

A run takes a turn before it begins and gives it back at its end. One that finds no room waits, the
oldest first; it is written down already. While a run is idle it rests, and another one may begin.
What an event from outside wakes goes on at once, though there be no room, and counts.
"""

import asyncio
from collections import Counter, OrderedDict
from itertools import count

from app.engine.served import ServedWorkflow
from app.errors import TooManyRuns
from app.settings import Limits


class Turn:
    """One run's turn: waited for, interrupted by rests, given back."""

    def __init__(self, turns: "Turns", workflow: ServedWorkflow, number: int) -> None:
        self.workflow = workflow
        self.number = number
        self.granted: asyncio.Future[None] | None = None
        self.counts = False
        self.counts_for_workflow = False
        self._turns = turns

    @property
    def is_pending(self) -> bool:
        """Whether the run has not begun, because there is no room."""
        return self.granted is not None

    @property
    def is_off(self) -> bool:
        """Whether no run begins any more, for the server is about to stop."""
        return self._turns.closed

    async def wait(self) -> None:
        """Return when the run may begin."""
        if self.granted is not None:
            await self.granted

    def rest(self) -> None:
        """Make room for another run: this one waits for an event from outside.

        It still counts for the workflow's own `num_concurrent_runs`, which is of whole runs.
        """
        self._turns.leave(self, for_workflow=self.workflow.concurrent_runs is None)

    def go_on(self) -> None:
        """Be at work again, at once."""
        self._turns.enter(self)

    def end(self) -> None:
        """Give the turn back, or wait for it no longer; ending twice does nothing."""
        self._turns.leave(self, for_workflow=True)


class Turns:
    """The turns of all runs of one server."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._at_work = 0
        self._of_workflow: Counter[str] = Counter()
        self._waiting: dict[str, OrderedDict[Turn, None]] = {}
        self._numbers = count()
        self.closed = False
        self.pending = 0

    def check_room(self, workflow: ServedWorkflow) -> None:
        """Raise `TooManyRuns` where a new run would have to wait, and too many wait already."""
        if self.pending >= self._limits.max_pending_runs and not self._has_room(workflow):
            raise TooManyRuns(
                f"{self.pending} runs wait for their turn already, which is as many as may; start"
                " the run again later."
            )

    def take(self, workflow: ServedWorkflow) -> Turn:
        """Return a turn, which may have to be waited for."""
        turn = Turn(self, workflow, next(self._numbers))
        if self._has_room(workflow):
            self.enter(turn)
        else:
            turn.granted = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(workflow.name, OrderedDict())[turn] = None
            self.pending += 1
        return turn

    def take_resting(self, workflow: ServedWorkflow) -> Turn:
        """Return the turn of an idle run, which need not wait, unless for its own workflow."""
        if workflow.concurrent_runs is not None:
            return self.take(workflow)
        return Turn(self, workflow, next(self._numbers))

    def close(self) -> None:
        """Let no run begin any more: the server is about to stop."""
        self.closed = True

    def enter(self, turn: Turn) -> None:
        """Count a run that is at work."""
        if not turn.counts:
            turn.counts = True
            self._at_work += 1
        if not turn.counts_for_workflow:
            turn.counts_for_workflow = True
            self._of_workflow[turn.workflow.name] += 1

    def leave(self, turn: Turn, *, for_workflow: bool) -> None:
        """Count a run no longer, and let others begin in its place."""
        if turn.granted is not None:
            self._forget(turn)
        if turn.counts:
            turn.counts = False
            self._at_work -= 1
        if for_workflow and turn.counts_for_workflow:
            turn.counts_for_workflow = False
            self._of_workflow[turn.workflow.name] -= 1
        while self._waiting and not self.closed:
            oldest = self._find_oldest()
            if oldest is None:
                return
            self._grant(oldest)

    def _has_room(self, workflow: ServedWorkflow) -> bool:
        if self.closed or self._at_work >= self._limits.max_runs:
            return False
        most = self._limits.max_runs_per_workflow or self._limits.max_runs
        if workflow.concurrent_runs is not None:
            most = min(most, workflow.concurrent_runs)
        return self._of_workflow[workflow.name] < most

    def _find_oldest(self) -> Turn | None:
        """Return the turn that is waited for longest, of those for which there is room."""
        firsts = (next(iter(turns)) for turns in self._waiting.values())
        able = [turn for turn in firsts if self._has_room(turn.workflow)]
        return min(able, key=lambda turn: turn.number, default=None)

    def _grant(self, turn: Turn) -> None:
        granted = turn.granted
        self._forget(turn)
        self.enter(turn)
        if granted is not None:
            granted.set_result(None)

    def _forget(self, turn: Turn) -> None:
        turn.granted = None
        self.pending -= 1
        waiting = self._waiting[turn.workflow.name]
        del waiting[turn]
        if not waiting:
            del self._waiting[turn.workflow.name]
