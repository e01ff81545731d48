"""Trials: the suspects of a crash come back turn by turn, until it is known who ended the process.

`evidence` says whose turn is when. Here it is asked once a start, written down before anything of a
run is read back, and carried out.
"""

import asyncio
from collections.abc import Sequence

from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.scheduling.evidence import Turn, Verdict, judge
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.restoring import RETRY_PAUSE, Restorer
from workflow_server.app.scheduling.turns import Turns
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import Phase, Suspect

logger = get_logger(__name__)

HEAD_START = 5.0  # seconds, so that many suspects do not keep others from beginning for long
SUSPECTS_AT_ONCE = 10_000  # read and written; one is about 60 bytes


class Trials:
    """Brings back the suspects of the last crash."""

    def __init__(
        self, reads: Reads, live: LiveRuns, restorer: Restorer, turns: Turns, *, max_resumes: int
    ) -> None:
        self._reads = reads
        self._store = reads.store
        self._live = live
        self._restorer = restorer
        self._turns = turns
        self._max_resumes = max_resumes
        self._verdict: Verdict | None = None
        self._judged = asyncio.Event()
        self._begun = asyncio.Event()

    def start(self) -> None:
        """Begin with nothing judged."""
        self._turns.start()
        self._verdict = None
        self._judged.clear()
        self._begun.clear()

    async def judge(self) -> None:
        """Write down what the end of the last process says; `StoreFailed` where that has to wait.

        Suspects are queued then, so that a crash before their turn says nothing against them.
        """
        if self._verdict is None:
            # Once: when it is written, the store no longer says who was present.
            self._verdict = await self._find_verdict()
        verdict = self._verdict
        for first in range(0, len(verdict.suspects), SUSPECTS_AT_ONCE):
            part = verdict.suspects[first : first + SUSPECTS_AT_ONCE]
            await self._reads.ask(self._store.write_suspects(part))
        self._turns.put_off(run_id for turn in verdict.turns for run_id in turn.run_ids)
        self._judged.set()

    async def _find_verdict(self) -> Verdict:
        found: list[Suspect] = []
        while True:
            after = found[-1] if found else None
            page = await self._reads.ask(
                self._store.list_suspects(after=after, limit=SUSPECTS_AT_ONCE)
            )
            found += page
            if len(page) < SUSPECTS_AT_ONCE:
                break
        self._turns.were_at_work = frozenset(
            suspect.run_id
            for suspect in found
            if suspect.was_present and suspect.phase is Phase.WORKING
        )
        verdict = judge(found, others=await self._has_others(found), max_resumes=self._max_resumes)
        if verdict.turns:
            logger.warning(
                "suspects of a crash wait for their turn",
                at_work=sum(suspect.was_present for suspect in found),
                suspects=len(found),
                turns=len(verdict.turns),
                probation=verdict.probation,
            )
        return verdict

    async def wait_begun(self) -> None:
        """Return when others may take slots.

        That is when the suspects are back that have no strike, or have had a head start, and none
        is alone any more.
        """
        await self._begun.wait()

    async def run(self) -> None:
        """Take all turns."""
        await self._judged.wait()
        verdict = self._verdict or Verdict()
        loop = asyncio.get_running_loop()
        began = loop.time()
        head_start: asyncio.TimerHandle | None = None
        last = max((n for n, turn in enumerate(verdict.turns) if _is_free(turn)), default=-1)
        try:
            for number, turn in enumerate(verdict.turns):
                if number > last:
                    self._begun.set()
                elif head_start is None and not turn.alone:
                    head_start = loop.call_later(HEAD_START, self._begun.set)
                await asyncio.sleep(max(began + turn.not_before - loop.time(), 0))
                await self._take(turn, verdict.probation, is_last=number == last)
        finally:
            if head_start is not None:
                head_start.cancel()
        self._begun.set()

    async def _has_others(self, found: Sequence[Suspect]) -> bool:
        """Return whether runs are about to be at work that are no suspects."""
        counted = await self._reads.ask(self._store.count_unfinished())
        soon = (Phase.QUEUED, Phase.WORKING)
        runs = sum(count.runs for count in counted if count.phase in soon)
        return runs > sum(suspect.phase in soon for suspect in found)

    async def _take(self, turn: Turn, probation: float, *, is_last: bool) -> None:
        """Bring the runs of a turn back, and return when they are well."""
        self._turns.begin(turn.run_ids, alone=turn.run_ids[0] if turn.alone else None)
        if not turn.given_up:
            logger.info("suspects come back", runs=len(turn.run_ids), alone=turn.alone)
        runs = await self._bring_back(turn)
        if is_last and not turn.alone:
            self._begun.set()
        await self._live.wait_well(runs, probation)
        for run in runs:
            run.end_probation()
        self._turns.end()

    async def _bring_back(self, turn: Turn) -> list[LiveRun]:
        """Return the runs of a turn once they are in memory, however long the store takes."""
        while True:
            try:
                if turn.given_up:
                    await self._restorer.give_up(turn.run_ids)
                    return []
                return await self._restorer.claim(turn.run_ids)
            except StoreFailed as error:
                logger.warning("restoring suspects was cut off", error=str(error))
                await asyncio.sleep(RETRY_PAUSE)


def _is_free(turn: Turn) -> bool:
    """Return whether the runs of a turn come back before others take slots."""
    return turn.alone or not (turn.given_up or turn.not_before)
