"""A server that crashes, simulated: runs come back in their turns, and some end the process."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from workflow_server.app.scheduling.evidence import Turn, Verdict, judge
from workflow_server.schemas.records import Phase, Suspect

NEVER = float("inf")


@dataclass
class SimulatedRun:
    """A run of one step, which takes `step` seconds, or ends the process `kills_after` seconds."""

    run_id: str
    step: float = NEVER
    kills_after: float = NEVER
    began: float | None = None
    attempted: bool = False
    resumes: int = 0
    strikes: int = 0
    status: str = "running"

    @property
    def ends_at(self) -> float:
        """When its step ends in this life."""
        return NEVER if self.began is None else self.began + self.step

    @property
    def kills_at(self) -> float:
        """When it ends the process."""
        return NEVER if self.began is None else self.began + self.kills_after


@dataclass
class SimulatedServer:
    """The lives of a server, one after the other."""

    runs: list[SimulatedRun]
    max_resumes: int
    starts: int = 0
    now: float = 0.0
    probation: float = 0.0
    _turns: list[Turn] = field(default_factory=list)
    _here: list[SimulatedRun] = field(default_factory=list)
    _turn_ends: float = 0.0

    def __post_init__(self) -> None:
        self._by_id = {run.run_id: run for run in self.runs}
        for run in self.runs:
            run.began = 0.0

    @property
    def open_runs(self) -> list[SimulatedRun]:
        """The runs that have not ended."""
        return [run for run in self.runs if run.status == "running"]

    def live(self, killed_at: float = NEVER) -> bool:
        """Live until the process ends; return false where it would not end any more."""
        self.starts += 1
        self.now = 0.0
        while True:
            event = min(self._list_events(killed_at), key=lambda event: event[0], default=None)
            if event is None:
                return False
            self.now = max(self.now, event[0])
            if event[1] is None:
                return True
            event[1]()

    def start_again(self) -> None:
        """Judge how the last life ended, and begin the next."""
        found = [
            Suspect(
                run_id=run.run_id,
                accepted=number,
                phase=Phase.QUEUED if run.began is None else Phase.WORKING,
                was_present=run.began is not None,
                attempted=run.attempted,
                resumes=run.resumes,
                strikes=run.strikes,
            )
            for number, run in enumerate(self.open_runs)
        ]
        verdict = judge(found, others=False, max_resumes=self.max_resumes)
        for suspect in verdict.suspects:
            run = self._by_id[suspect.run_id]
            run.began, run.attempted = None, False
            run.resumes, run.strikes = suspect.resumes, suspect.strikes
        self._begin(verdict)

    def _begin(self, verdict: Verdict) -> None:
        self.probation = verdict.probation
        named = {run_id for turn in verdict.turns for run_id in turn.run_ids}
        for run in self.open_runs:
            if run.run_id not in named:
                run.began = 0.0
        self._turns = list(verdict.turns)
        self._here, self._turn_ends = [], 0.0

    def _list_events(self, killed_at: float) -> Iterable[tuple[float, Callable[[], None] | None]]:
        if self.open_runs:
            yield killed_at, None
        for run in self.open_runs:
            yield run.kills_at, None
            if run.ends_at < NEVER:
                yield run.ends_at, partial(self._end, run)
        if self._here or self._turns:
            over = all(not run.attempted for run in self._here)
            at = self.now if over else self._turn_ends
            if self._turns:
                at = max(at, self._turns[0].not_before)
            yield at, self._go_on

    def _go_on(self) -> None:
        for run in self._here:
            run.attempted = False
        self._here = []
        if not self._turns:
            return
        turn = self._turns.pop(0)
        for run_id in turn.run_ids:
            run = self._by_id[run_id]
            if turn.given_up:
                run.status = "failed"
                continue
            assert not turn.alone or not [other for other in self.runs if other.began is not None]
            run.began, run.attempted = self.now, True
            self._here.append(run)
        self._turn_ends = self.now + self.probation

    def _end(self, run: SimulatedRun) -> None:
        run.status, run.began, run.attempted = "completed", None, False
