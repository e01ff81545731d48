"""Takeover: the runs that other servers leave, and who goes on with them.

What a dead server had at work may have ended it: one of the others judges (`evidence`), and writes
that down. The first half of those runs belongs to nobody then; the others wait for their turn as
runs of the one that has judged. All else that the dead one had belongs to nobody, too. Of the runs
that belong to nobody and go on, each server that has room claims a share, oldest first.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from workflow_server.app.clocks import StoreClock
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.replicas.fitting import COUNTED, Fitting
from workflow_server.app.replicas.membership import Membership
from workflow_server.app.replicas.slots import SharedQueue
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.scheduling.evidence import Turn, Verdict, judge, probation_after
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.restoring import CLAIMED_AT_ONCE, Restorer
from workflow_server.app.scheduling.timers import Timers
from workflow_server.app.scheduling.turns import Turns
from workflow_server.app.scheduling.waits import wait_for
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.replicas import Reason, ReplicaMetrics
from workflow_server.stores.replicas import Peers

logger = get_logger(__name__)

DISOWNED_AT_ONCE = 1_000  # runs
SHARE_PAUSE = 0.02  # seconds between two shares, in which other servers take theirs


class Takeover:
    """Goes on with what other servers leave, as long as this one is not about to stop.

    It looks when a server has come or gone, and after each heartbeat, since a server that stops
    leaves its runs one after the other.
    """

    def __init__(
        self,
        reads: Reads,
        peers: Peers,
        membership: Membership,
        workflows: Mapping[str, ServedWorkflow],
        live: LiveRuns,
        queue: SharedQueue,
        restorer: Restorer,
        turns: Turns,
        timers: Timers,
        *,
        clock: StoreClock,
        max_resumes: int,
        pause: float,
        metrics: ReplicaMetrics,
    ) -> None:
        self._reads = reads
        self._peers = peers
        self._membership = membership
        self._workflows = workflows
        self._live = live
        self._queue = queue
        self._restorer = restorer
        self._turns = turns
        self._timers = timers
        self._clock = clock
        self._fitting = Fitting(reads, peers, membership, restorer)
        self._max_resumes = max_resumes
        self._pause = pause
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._former = 0
        self._claimed: list[str] = []
        self._is_cut_off = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def start(self, *, former: int) -> None:
        """Begin with nothing claimed; `former` is the incarnation before, where it was fenced."""
        self._turns.start()
        self._fitting.start()
        self._former = former
        self._claimed.clear()
        self._is_cut_off = self._is_closed = False

    def look(self) -> None:
        """Look at once what there is to take over."""
        self._changed.set()

    def close(self) -> None:
        """Take nothing over any more: this server is about to stop."""
        self._is_closed = True

    async def run(self) -> None:
        """Take over what is left, for ever."""
        try:
            while True:
                try:
                    await self._look()
                except StoreFailed as error:
                    self._is_cut_off = True
                    logger.warning("taking over runs was cut off", error=str(error))
                await wait_for(self._changed, self._pause)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        if self._is_closed or self._membership.is_in_doubt:
            return
        if self._is_cut_off:
            await self._find_claimed()
        await self._restore_claimed()
        if self._former:
            # What this server had did not end it, so nothing of that is a suspect.
            await self._disown(self._former, Reason.FENCED, with_present=True)
            self._former = 0
        for owner in await self._reads.ask(self._peers.list_dead()):
            await self._take_over(owner)
        await self._claim_held()
        await self._claim_shares()
        await self._fitting.hold_stranded()

    async def _take_over(self, owner: int) -> None:
        present = await self._reads.ask(self._peers.list_present(owner))
        verdict = judge(present, others=True, max_resumes=self._max_resumes, is_shared=True)
        if verdict.turns:
            await self._write_verdict(owner, verdict)
        await self._disown(owner, Reason.DEAD, with_present=False)
        await self._end_not_resumable()
        self._timers.note(self._clock())

    async def _write_verdict(self, owner: int, verdict: Verdict) -> None:
        first, *later = verdict.turns
        if first.not_before or first.given_up:
            first, later = Turn(()), list(verdict.turns)
        kept = [run_id for turn in later for run_id in turn.run_ids]
        self._turns.put_off(kept)  # before this server has them: a request would restore them
        try:
            is_judge = await self._reads.ask(
                self._peers.write_verdict(owner, verdict.suspects, kept=kept)
            )
        except StoreFailed:
            self._turns.begin(kept)  # it may be written: those that are ours come back at once
            raise
        if not is_judge:
            self._turns.begin(kept)
            return
        self._metrics.takeovers[Reason.DEAD].inc(len(verdict.suspects))
        logger.warning(
            "runs of a dead server are taken over",
            server=owner,
            at_work=len(verdict.suspects),
            turns=len(verdict.turns),
            probation=verdict.probation,
        )
        if later:
            self._spawn(self._carry_out(later, verdict.probation))

    async def _carry_out(self, turns: Sequence[Turn], probation: float) -> None:
        """Let runs come back turn by turn, after those that came first have had time to be well."""
        for turn in turns:
            await asyncio.sleep(probation)
            await self._insist(turn)
            self._changed.set()

    async def _insist(self, turn: Turn) -> None:
        """End the runs of a turn, or let whoever has room claim them, however long it takes."""
        while True:
            try:
                if turn.given_up:
                    self._turns.begin(turn.run_ids)
                    await self._restorer.give_up(turn.run_ids)
                else:
                    await self._reads.ask(self._peers.release(turn.run_ids))
                    self._turns.begin(turn.run_ids)
            except StoreFailed as error:
                logger.warning("taking over runs was cut off", error=str(error))
                await asyncio.sleep(self._pause)
            else:
                return

    async def _disown(self, owner: int, reason: Reason, *, with_present: bool) -> None:
        while True:
            disowned = await self._reads.ask(
                self._peers.disown(owner, limit=DISOWNED_AT_ONCE, with_present=with_present)
            )
            self._metrics.takeovers[reason].inc(len(disowned))
            if len(disowned) < DISOWNED_AT_ONCE:
                return

    async def _end_not_resumable(self) -> None:
        """End the runs that wait and cannot go on; those of servers that are alive stay."""
        after = None
        while True:
            page = await self._reads.ask(
                self._reads.store.list_not_resumable(after=after, limit=CLAIMED_AT_ONCE)
            )
            await self._restorer.claim([place.run_id for place in page])
            if len(page) < CLAIMED_AT_ONCE:
                return
            after = page[-1]

    async def _claim_held(self) -> None:
        """Try held runs that this server's code may fit."""
        names, limit = self._list_served(), min(self._queue.room, CLAIMED_AT_ONCE)
        while names and limit and not self._is_closed:
            claimed = await self._fitting.claim_held(names, limit=limit)
            self._claimed += claimed
            await self._restore_claimed()
            if len(claimed) < limit:
                return
            names, limit = self._list_served(), min(self._queue.room, CLAIMED_AT_ONCE)

    def _list_served(self) -> list[str]:
        """Return the workflows of which one more run may be at work here."""
        served = self._workflows.items()
        return [name for name, workflow in served if self._queue.has_room(workflow)]

    def _list_full(self) -> list[str]:
        """Return the workflows of which only what has a slot already may be at work here."""
        served = self._workflows.items()
        return [name for name, workflow in served if self._queue.lacks_slots(workflow)]

    async def _claim_shares(self) -> None:
        """Claim shares of what nobody has, while there is room for them.

        Of a workflow whose runs wait here for slots, that is only what has one: those that wait
        would wait for it for ever.
        """
        spared: Sequence[str] | None = None
        while not (self._is_closed or self._membership.is_in_doubt):
            full = self._list_full()
            names = [*self._list_served(), *full]
            if not names:
                return
            if spared is None:
                spared = await self._fitting.find_spared(names, full=full)
            unclaimed = await self._reads.ask(
                self._peers.count_unclaimed(names, limit=COUNTED, spared=spared, full=full)
            )
            share = -(-unclaimed // max(len(self._membership.members), 1))
            limit = min(share, CLAIMED_AT_ONCE, self._queue.room)
            if limit <= 0:
                return
            claimed = await self._reads.ask(
                self._peers.claim_next(names, limit=limit, spared=spared, full=full)
            )
            self._metrics.claims.inc(len(claimed))
            self._claimed += claimed
            await self._restore_claimed()
            await asyncio.sleep(SHARE_PAUSE)

    async def _find_claimed(self) -> None:
        """Take for claimed what this server has and nobody here knows of: an answer was lost."""
        ours = await self._reads.ask(self._peers.list_ours())
        known = {run.run_id for run in self._live.list_runs()}
        lost = [run for run in ours if run not in known and not self._turns.is_waiting(run)]
        self._claimed = list(dict.fromkeys((*self._claimed, *lost)))
        self._is_cut_off = False

    async def _restore_claimed(self) -> None:
        """Bring what was claimed into memory; what the store's failure has cut off stays to be."""
        if not self._claimed:
            return
        runs = await self._restorer.claim(self._claimed)
        self._claimed.clear()
        suspects = [run for run in runs if run.is_on_probation]
        if suspects:
            self._spawn(self._watch(suspects))

    async def _watch(self, suspects: Sequence[LiveRun]) -> None:
        """End the probation of suspects that have not ended this server in it."""
        crashes = max(run.journal.record.resumes for run in suspects)
        await self._live.wait_well(suspects, probation_after(crashes))
        for run in suspects:
            run.end_probation()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="takeover")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
