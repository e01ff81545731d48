"""Which runs are in memory: begun, resumed at the start, released when idle, brought back when due.

A run is held here by a strong reference from its acceptance to its committed end. One that waits
for a person is released after a while; what is left of it is its place in the list of what is due.
"""

import asyncio
import heapq
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

from app.engine import outcome
from app.engine.outcome import Outcome, RunFailed
from app.engine.replay import NotRecoverable, StoredJournal, read_journal, recover
from app.engine.served import RunInput, ServedWorkflow
from app.errors import NotStarted
from app.runs.commit_log import CommitLog
from app.runs.journal import RunJournal
from app.runs.recorder import Clock
from app.runs.run import LiveRun
from app.runs.slots import Turns
from app.scheduling.recent import EndedRun, EndedRuns
from app.settings import Limits
from app.streams.tail import EventTail
from app.telemetry.logs import get_logger
from app.telemetry.metrics import Metrics
from schemas.records import Idle, RunRecord, Status
from stores.base import Store, StoreError

logger = get_logger(__name__)

RESUMED_AT_ONCE = 20  # runs; they go on in step, and a request waits while all of them take one
RELEASED_AT_ONCE = 100  # runs
SHORTEST_STAY = 0.05  # seconds that a run stays in memory, for what has brought it back
LONGEST_WAIT = 60.0  # seconds until a timer is looked at again, for clocks may be set
LATEST = datetime.max.replace(tzinfo=UTC)
RETRY_PAUSE = 1.0  # seconds until what the store's failure has cut off is tried again


class Residency:
    """The live runs of this process, by the keys of their handlers."""

    def __init__(
        self,
        store: Store,
        workflows: Mapping[str, ServedWorkflow],
        log: CommitLog,
        *,
        clock: Clock,
        idle_timeout: float,
        max_resumes: int,
        limits: Limits,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._workflows = workflows
        self._log = log
        self._clock = clock
        self._idle_timeout = idle_timeout
        self._max_resumes = max_resumes
        self._limits = limits
        self._turns = Turns(limits)
        self._metrics = metrics or Metrics()
        self._live: dict[str, LiveRun] = {}
        self._loading: dict[str, asyncio.Task[LiveRun | None]] = {}
        # Held by one run after the other, so that requests get their turn between two of them.
        self._recovering = asyncio.Lock()
        self._tails: WeakValueDictionary[str, EventTail] = WeakValueDictionary()
        self._ended = EndedRuns()
        self._idle: OrderedDict[LiveRun, float] = OrderedDict()
        self._due: list[tuple[datetime, str]] = []
        self._due_first: dict[str, datetime] = {}
        self._idle_changed = asyncio.Event()
        self._due_changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._started_at = clock()
        self._resuming: asyncio.Task[None] | None = None
        self.dismissed = False

    def start(self) -> None:
        """Begin to resume what was running, and to watch what is idle."""
        # Kept until now: what those of before did was still to be committed when they stopped.
        self._live.clear()
        self._started_at = self._clock()
        self._turns = Turns(self._limits)
        self.dismissed = False
        self._resuming = self._spawn(self._resume_all(), "resume")
        self._spawn(self._release_idle(), "release")
        self._spawn(self._wake_due(), "wake")

    async def stop(self) -> None:
        """Stop all runs where they are."""
        self.dismiss()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run in list(self._live.values()):
            await run.abandon()
        self._ended.clear()
        self._idle.clear()
        self._due.clear()
        self._due_first.clear()

    async def wait_quiet(self, seconds: float) -> None:
        """Let no run begin, and return when none is at work, or after some seconds."""
        self._turns.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.at_work and loop.time() < deadline:
            await _wait(self._settled, deadline - loop.time())

    def dismiss(self) -> None:
        """Send away everybody who reads a run or waits for one: the server stops."""
        self.dismissed = True
        for tail in list(self._tails.values()):
            tail.close()
        for run in self._live.values():
            run.dismiss()

    @property
    def resumes(self) -> bool:
        """Whether what was running has been resumed, or still is, and that was not broken off."""
        resuming = self._resuming
        return resuming is not None and (not resuming.done() or resuming.exception() is None)

    @property
    def uncommitted_bytes(self) -> int:
        """What the live runs have journalled and is not committed yet."""
        return sum(run.uncommitted_bytes for run in self._live.values())

    @property
    def idle(self) -> int:
        """How many runs in memory wait for an event from outside."""
        return sum(run.is_idle for run in self._live.values())

    @property
    def pending(self) -> int:
        """How many runs wait for their turn."""
        return self._turns.pending

    @property
    def at_work(self) -> int:
        """How many runs are executed."""
        return sum(not (run.is_idle or run.is_pending) for run in self._live.values())

    def check_room(self, workflow: ServedWorkflow) -> None:
        """Raise `TooManyRuns` where a run of the workflow cannot be taken, not even to wait."""
        self._turns.check_room(workflow)

    def get(self, key: str) -> LiveRun | None:
        """Return the handler's run where it is in memory."""
        return self._live.get(key)

    def get_ended(self, key: str) -> EndedRun | None:
        """Return the handler's last run where it ended a short while ago."""
        return self._ended.get(key)

    def forget(self, key: str) -> None:
        """Keep nothing of a handler that was purged."""
        self._ended.forget(key)

    def begin(
        self,
        record: RunRecord,
        workflow: ServedWorkflow,
        run_input: RunInput,
        *,
        superseded: RunRecord | None,
    ) -> LiveRun:
        """Start a run that was accepted."""
        run = self._make(record, workflow, run_input, EventTail(), 0)
        self._ended.forget(record.handler_key)
        self._live[record.handler_key] = run
        run.start(superseded=superseded)
        logger.info("run accepted", **_ids(record), workflow=workflow.name)
        self._metrics.count_start(workflow.name)
        return run

    async def load(self, record: RunRecord) -> LiveRun | None:
        """Return a running run, brought back from the store where it is not in memory.

        None where it ended meanwhile. Two callers at once get the same run. Raises `StoreError`,
        or `NotStarted` where the server stops before.
        """
        live = self._live.get(record.handler_key)
        if live is not None:
            return live
        loading = self._loading.get(record.handler_key)
        if loading is None:
            loading = self._spawn(self._load(record.run_id), f"load {record.run_id}")
            self._loading[record.handler_key] = loading
            loading.add_done_callback(lambda _: self._loading.pop(record.handler_key, None))
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not loading.cancelled() or (task is not None and task.cancelling()):
                raise
            raise NotStarted("The server stops; ask again in a moment.") from None

    async def tail_of(self, record: RunRecord) -> EventTail | None:
        """Return the tail of a run for readers to wait on.

        That of a run that has ended is None, unless it ended a short while ago, or its end is not
        committed yet.
        """
        if record.status is not Status.RUNNING:
            live = self._live.get(record.handler_key)
            if live is not None and live.visible is record:
                return live.tail
            ended = self.get_ended(record.handler_key)
            return ended.tail if ended is not None and ended.record is record else None
        tail = self._tails.get(record.run_id)
        if tail is None:
            # There before the store is asked: the run may come, go on and leave meanwhile.
            tail = self._tails[record.run_id] = EventTail(known=False)
        if not tail.known:
            tail.reach(await self._store.count_events(record.run_id) - 1)
            latest = await self._store.get_run(record.run_id)
            if latest is None or latest.status is not Status.RUNNING:
                tail.end()  # while the store was asked
        return tail

    # What runs tell.

    def run_ended(self, run: LiveRun) -> None:
        """Let go of a run whose end is committed."""
        if run.visible is not None:
            self._note_end(run.visible)
            self._ended.keep(EndedRun(run.visible, run.tail))
        self._settled.set()
        self._idle.pop(run, None)
        if self._live.get(run.handler_key) is run:
            del self._live[run.handler_key]

    def step_ended(self, run: LiveRun, step: str, status: str, seconds: float) -> None:
        """Count an attempt of a step."""
        self._metrics.count_step(run.workflow.name, step, status, seconds)

    def run_idle(self, run: LiveRun) -> None:
        """Note that a run is idle, to release it in a while."""
        self._settled.set()
        stay = max(self._idle_timeout, SHORTEST_STAY)
        self._idle[run] = asyncio.get_running_loop().time() + stay
        self._idle.move_to_end(run)
        if len(self._idle) == 1:
            self._idle_changed.set()

    def _note_end(self, record: RunRecord) -> None:
        self._metrics.count_end(record)
        logger.info("run ended", **_ids(record), status=record.status.value)

    # Bringing back.

    async def _load(self, run_id: str) -> LiveRun | None:
        record = await self._store.get_run(run_id)
        if record is None or record.status is not Status.RUNNING:
            return None
        journal = await read_journal(record, self._store)
        tail = self._tails.setdefault(run_id, EventTail())
        tail.reach(journal.event_count - 1)
        workflow = self._workflows.get(record.workflow_name)
        try:
            if workflow is None:
                raise NotRecoverable(
                    "The run could not be resumed: its workflow is no longer served as"
                    f" '{record.workflow_name}'."
                )
            self._check_resumes(record)
            async with self._recovering:
                recovered = recover(journal, workflow)
        except NotRecoverable as reason:
            logger.warning("run not resumed", **_ids(record), reason=str(reason))
            await self._end(journal, tail, outcome.failed(RunFailed(str(reason)), None))
            return None
        if recovered.ended is not None:
            await self._end(journal, tail, recovered.ended)
            return None
        run = self._make(record, workflow, recovered.run_input, tail, recovered.next_tick)
        if record.idle is not None:
            run.wake(recovered, waited=self._waited(record.idle))
        else:
            run.resume(recovered)
            logger.info("run resumed", **_ids(record), resumes=record.resumes + 1)
            self._metrics.resumes.inc()
        self._live[record.handler_key] = run
        return run

    def _waited(self, idle: Idle) -> float:
        """Return how long a server has run since the run became idle, in seconds."""
        return (self._clock() - self._alive_since(idle)).total_seconds()

    def _alive_since(self, idle: Idle) -> datetime:
        """Return since when a server has known that the run is idle; clocks may be set back."""
        return min(max(idle.since, self._started_at), self._clock())

    def _check_resumes(self, record: RunRecord) -> None:
        if record.idle is None and record.resumes >= self._max_resumes:
            raise NotRecoverable(
                f"The run was resumed {record.resumes} times, and each time the process ended"
                " before a step of it had finished; it is not resumed again."
            )

    async def _end(self, journal: StoredJournal, tail: EventTail, ended: Outcome) -> None:
        """Write down the end of a run that does not go on, and return when it is committed."""

        def committed(record: RunRecord | None) -> None:
            tail.end()
            if record is not None:
                self._note_end(record)

        writer = RunJournal(
            journal.record,
            self._log,
            tail=tail,
            on_committed=committed,
            on_failed=lambda: None,
        )
        writer.open_unit()
        writer.end(ended.status, ended.envelope, ended.error, now=self._clock())
        writer.close_unit()
        await writer.wait_committed()

    def _make(
        self,
        record: RunRecord,
        workflow: ServedWorkflow,
        run_input: RunInput,
        tail: EventTail,
        next_tick: int,
    ) -> LiveRun:
        self._tails[record.run_id] = tail
        return LiveRun(
            record,
            workflow,
            run_input,
            self._log,
            tail=tail,
            observer=self,
            clock=self._clock,
            turns=self._turns,
            max_event_size=self._limits.max_event_size,
            next_tick=next_tick,
        )

    async def _resume_all(self) -> None:
        """Resume every run that was running, and note when idle ones are due."""
        while True:
            try:
                batch: list[RunRecord] = []
                unserved: Counter[str] = Counter()
                async for record in self._store.list_unfinished():
                    if record.idle is not None:
                        self._note_due(record.handler_key, record.idle)
                        unserved[record.workflow_name] += (
                            record.workflow_name not in self._workflows
                        )
                        continue
                    batch.append(record)
                    if len(batch) == RESUMED_AT_ONCE:
                        await self._load_all(batch)
                        batch = []
                await self._load_all(batch)
                if +unserved:
                    logger.warning("waiting runs of workflows not served", runs=dict(+unserved))
            except StoreError as error:
                logger.warning("resuming was cut off", error=str(error))
                await asyncio.sleep(RETRY_PAUSE)
            except Exception:
                # Nobody awaits this task; `resumes` tells that it was broken off.
                logger.exception("resuming was broken off")
                raise
            else:
                return

    async def _load_all(self, records: Sequence[RunRecord]) -> None:
        await asyncio.gather(*(self.load(record) for record in records))

    def _note_due(self, key: str, idle: Idle) -> None:
        due = [idle.wake_at] if idle.wake_at is not None else []
        if idle.timeout_left is not None:
            since = self._alive_since(idle)
            due.append(since + timedelta(seconds=max(idle.timeout_left, 0)))
        # An earlier time is as good, for the run is looked at then; and a run that comes and goes
        # again and again has one place here.
        if due and min(due) < self._due_first.get(key, LATEST):
            self._due_first[key] = min(due)
            heapq.heappush(self._due, (min(due), key))
            self._due_changed.set()

    async def _wake_due(self) -> None:
        """Bring back each released run when a timer of it is due."""
        while True:
            now = self._clock()
            while self._due and self._due[0][0] <= now:
                at, key = heapq.heappop(self._due)
                if self._due_first.get(key) == at:
                    del self._due_first[key]
                if key not in self._live:
                    self._spawn(self._wake(key), f"wake {key}")
            seconds = (self._due[0][0] - now).total_seconds() if self._due else None
            await _wait(self._due_changed, seconds)

    async def _wake(self, key: str) -> None:
        while True:
            try:
                record = await self._store.get_handler(key)
                if record is not None and record.status is Status.RUNNING:
                    await self.load(record)
            except StoreError as error:
                logger.warning("waking a run was cut off", error=str(error))
                await asyncio.sleep(RETRY_PAUSE)
            else:
                return

    # Letting go.

    async def _release_idle(self) -> None:
        """Release each run that has been idle for `idle_timeout` seconds."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            due = self._take_due(now)
            await asyncio.gather(*(self._release(run) for run in due))
            if not due:
                first = next(iter(self._idle.values()), None)
                await _wait(self._idle_changed, first - now if first is not None else None)

    def _take_due(self, now: float) -> list[LiveRun]:
        """Return some of the runs that have been idle for long enough, and watch them no more."""
        due = [run for run, at in islice(self._idle.items(), RELEASED_AT_ONCE) if at <= now]
        for run in due:
            del self._idle[run]
        return due

    async def _release(self, run: LiveRun) -> None:
        if self._live.get(run.handler_key) is not run or not run.is_idle:
            return
        if not await run.prepare_release():
            if run.is_idle:
                self.run_idle(run)
            return
        if run.visible is not None and run.visible.idle is not None:
            self._note_due(run.handler_key, run.visible.idle)
        run.park()
        del self._live[run.handler_key]

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _ids(record: RunRecord) -> dict[str, str]:
    return {"handler_id": record.handler_id, "run_id": record.run_id}


async def _wait(changed: asyncio.Event, seconds: float | None) -> None:
    """Return when something changed, or after some seconds."""
    try:
        async with asyncio.timeout(min(max(seconds, 0), LONGEST_WAIT) if seconds else seconds):
            await changed.wait()
    except TimeoutError:
        pass
    changed.clear()
