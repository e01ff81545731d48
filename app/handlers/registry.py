"""The handlers of this process: started, listed, asked, answered, cancelled, read.

The registry decides; routers translate. It holds every live run by a strong reference from its
acceptance to its committed end, and asks the store for all others.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, assert_never

from pydantic_core import to_json

from app.engine.served import RunInput, ServedWorkflow
from app.errors import (
    Draining,
    EventTooLarge,
    HandlerEnded,
    HandlerNotFound,
    HandlerRunning,
    InvalidHandlerId,
    NothingToCancel,
    NotStarted,
    OtherWorkflow,
    RunNotFound,
    StateNotRestorable,
    StoreFailed,
    StreamTaken,
)
from app.handlers.reads import UNREACHABLE, HandlerPage, RunPage, StoredHandlers
from app.handlers.retention import keep_pruning
from app.runs.commit_log import CommitLog
from app.runs.recorder import Clock, utc_now
from app.runs.run import LiveRun
from app.scheduling.live import Residency
from app.settings import Limits
from app.streams.subscription import SharedPositions, Subscription
from app.streams.tail import EventTail
from app.telemetry.metrics import CONTENT_TYPE, Metrics
from app.telemetry.watchdog import Watchdog
from schemas import names
from schemas.handlers import RunRequest
from schemas.records import (
    HandlerQuery,
    RunPosition,
    RunRecord,
    Status,
    handler_key,
    split_key,
)
from stores.base import Store, StoreError
from stores.bounded import BoundedStore

HANDLER_ID = re.compile(names.HANDLER_ID)
CHECK_TIMEOUT = 3.0  # seconds in which a store that can be reached says so
ID_BYTES = 8
ID_LENGTH = 10


def new_id() -> str:
    """Return a random id of 10 characters of the URL-safe alphabet (60 bits)."""
    return secrets.token_urlsafe(ID_BYTES)[:ID_LENGTH]


class HandlerRegistry:
    """All that can be done with handlers, which are named by their keys (`handler_key`).

    Every method raises `NotStarted` before `start` and after `stop`, and `StoreFailed` when the
    store cannot be reached.
    """

    def __init__(
        self,
        store: Store,
        workflows: Mapping[str, ServedWorkflow],
        *,
        persistence_backoff: Sequence[float],
        idle_timeout: float,
        max_resumes: int,
        retention: timedelta | None = None,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        clock: Clock = utc_now,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        limits = limits or Limits()
        store = self._store = BoundedStore(store)
        self._workflows = workflows
        self._metrics = metrics or Metrics()
        self._log = CommitLog(store, backoff=persistence_backoff, metrics=self._metrics)
        self._watchdog = Watchdog(self._metrics)
        self._clock = clock
        self._make_id = make_id
        self._runs = Residency(
            store,
            workflows,
            self._log,
            clock=clock,
            idle_timeout=idle_timeout,
            max_resumes=max_resumes,
            limits=limits,
            metrics=self._metrics,
        )
        self._metrics.observe(
            "uncommitted_bytes", "Journalled, not committed.", lambda: self._runs.uncommitted_bytes
        )
        self._metrics.observe(
            "runs_idle", "Runs in memory that wait for somebody.", lambda: self._runs.idle
        )
        self._metrics.observe(
            "runs_pending", "Runs that wait for their turn.", lambda: self._runs.pending
        )
        self._metrics.observe("runs_at_work", "Runs that are executed.", lambda: self._runs.at_work)
        self._stored = StoredHandlers(store, self._metrics)
        self._limits = limits
        self._retention = retention
        self._pruning: asyncio.Task[None] | None = None
        self._reserved: set[str] = set()
        self._positions = SharedPositions()
        self._started = False
        self._draining = False

    async def start(self) -> None:
        """Open the store and begin to take requests."""
        await self._store.start()
        self._log.start()
        self._runs.start()
        self._watchdog.start()
        if self._retention is not None:
            self._pruning = asyncio.create_task(
                keep_pruning(
                    self._store,
                    self._purge_ended,
                    retention=self._retention,
                    clock=self._clock,
                ),
                name="retention",
            )
        self._started, self._draining = True, False

    async def drain(self, grace: float) -> None:
        """Take no new runs, give those at work up to `grace` seconds, and send everybody away.

        What is then still at work is cut off by `stop`, and goes on at the next start.
        """
        self._draining = True
        await self._runs.wait_quiet(grace)
        self.dismiss()

    def dismiss(self) -> None:
        """Send away everybody who reads a live run or waits for one: the server stops."""
        self._runs.dismiss()

    async def stop(self) -> None:
        """Stop all runs where they are, commit what they did, and close the store."""
        self._started = False
        pruning, self._pruning = self._pruning, None
        if pruning is not None:
            pruning.cancel()
            await asyncio.gather(pruning, return_exceptions=True)
        await self._watchdog.stop()
        await self._runs.stop()
        await self._log.stop()
        await self._store.stop()

    async def check_ready(self) -> bool:
        """Return whether new runs are taken.

        That is as `check`, and the server is not about to stop, and goes on with its runs.
        """
        return not self._draining and await self.check() and self._runs.resumes

    async def check(self) -> bool:
        """Return whether requests can be served: started, and the store answers."""
        if not self._started or not self._log.healthy:
            return False
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self._store.check()
        except (StoreError, TimeoutError):
            return False
        return True

    @property
    def metrics(self) -> Metrics:
        """What is counted."""
        return self._metrics

    def render_metrics(self) -> tuple[bytes, str]:
        """Return all metrics as text, and its media type."""
        return self._metrics.render(), CONTENT_TYPE

    async def start_run(
        self, workflow: ServedWorkflow, request: RunRequest, *, tenant: str = ""
    ) -> LiveRun:
        """Start a run, of a new handler of a tenant or of an ended one, and return it at once.

        Of many simultaneous requests with one handler id exactly one is accepted; the others
        raise `HandlerRunning`. Raises `TooManyRuns` where too many wait for their turn already. A
        request that is refused leaves nothing behind.
        """
        self._check_started()
        if self._draining:
            raise Draining("The server is about to stop; start the run again in a moment.")
        key = self._reserve(tenant, request.handler_id)
        try:
            previous = await self._stored.get(key) if request.handler_id else None
            if previous is not None and previous.status is Status.RUNNING:
                raise _running(key)
            run_input = await self._prepare(workflow, request, previous)
            return self._begin(key, workflow, run_input, previous)
        finally:
            self._reserved.discard(key)

    async def get(self, key: str, *, run_id: str | None = None) -> RunRecord:
        """Return a run of the handler, by default its current one, as it was last committed.

        Raises `HandlerNotFound`, or `RunNotFound` where the handler has no such run.
        """
        record, _ = await self._find(key)
        if run_id is None or run_id == record.run_id:
            return record
        earlier = await self._stored.get_run(run_id)
        if earlier is None or earlier.handler_key != key:
            raise RunNotFound(f"The handler '{record.handler_id}' has no run '{run_id}'.")
        return earlier

    async def list_handlers(self, query: HandlerQuery) -> HandlerPage:
        """Return a page of a tenant's handlers, newest first."""
        self._check_started()
        return await self._stored.list(query)

    async def list_runs(self, key: str, *, after: RunPosition | None, limit: int) -> RunPage:
        """Return a page of the handler's runs, newest first; `HandlerNotFound` for no handler."""
        await self._find(key)
        return await self._stored.list_runs(key, after=after, limit=limit)

    async def send_event(
        self,
        key: str,
        data: dict[str, Any] | str,
        *,
        step: str | None,
        reply_to: int | None,
    ) -> None:
        """Return once the event is written down, and so reaches the run exactly once.

        Raises `InvalidEvent`, `EventTooLarge`, `UnknownStep`, `HandlerNotFound`, `HandlerEnded`,
        `RunNotBegun` or `QuestionNotOpen`.
        """
        record, live = await self._find_running(key)
        if live is None:
            raise HandlerEnded(
                f"The handler '{record.handler_id}' has ended: {_how_it_ended(record)}."
            )
        if reply_to is not None:
            # Before the event is read: what only a question that is answered by now has declared
            # may be unknown again, and a second answer is a conflict all the same.
            live.check_open(reply_to)
        event = live.workflow.read_event(data, awaited=live.awaited)
        if step is not None:
            live.workflow.check_step(step, event)
        if self._limits.max_event_size < self._limits.max_body_size:
            self._check_size(to_json(data))
        await live.send(event, step=step, reply_to=reply_to)

    async def cancel(self, key: str, *, purge: bool) -> Literal["cancelled", "deleted"]:
        """Stop a running handler and, with `purge`, remove every trace of it.

        Raises `NothingToCancel` for a handler that has ended, unless it is to be purged.
        """
        record, live = await self._find_running(key)
        if live is not None:
            record = await live.cancel()
        if purge:
            await self._purge(key)
            return "deleted"
        if live is None or record.status is not Status.CANCELLED:
            raise NothingToCancel(
                f"The handler '{record.handler_id}' has ended already: {_how_it_ended(record)}."
            )
        return "cancelled"

    async def subscribe(
        self, key: str, *, after: int | Literal["now"], run_id: str | None = None
    ) -> Subscription:
        """Return a reader of a run's events after a cursor, independent of all other readers."""
        record = await self.get(key, run_id=run_id)
        tail, last = await self._tail_of(record), record.event_count - 1
        if after == "now":
            after = tail.last if tail else last
        if tail is not None and tail.failed and not tail.ended and after >= tail.last:
            raise self._stored.failed()
        return Subscription(
            record.run_id,
            store=self._store,
            tail=tail,
            after=after,
            last=last,
            readers=self._metrics.readers,
        )

    async def subscribe_shared(
        self, key: str, *, acquire_timeout: float, run_id: str | None = None
    ) -> Subscription:
        """Return the reader that holds a run's one shared reading position.

        It continues after the last event that such a reader was sent. Raises `StreamTaken` when
        another one holds the position for longer than `acquire_timeout` seconds.
        """
        record = await self.get(key, run_id=run_id)
        position = self._positions.of(record.run_id)
        if not await position.acquire(acquire_timeout):
            raise StreamTaken(
                f"Another reader without a cursor reads the events of '{record.handler_id}'; give"
                " `after_sequence` to read them independently."
            )
        try:
            subscription = await self.subscribe(key, after=position.cursor, run_id=record.run_id)
        except BaseException:
            position.release()
            raise
        subscription.share(position)
        return subscription

    # Finding.

    def _check_started(self) -> None:
        if not self._started:
            raise NotStarted("The server is not started.")

    async def _find(self, key: str) -> tuple[RunRecord, LiveRun | None]:
        """Return the handler's current run as last committed, and the run where it is live."""
        self._check_started()
        while True:
            live = self._runs.get(key)
            if live is not None and live.visible is not None:
                return live.visible, live
            if live is not None and live.is_uncertain:
                # Whoever started it was told so, and must not take it for one that is not there.
                raise self._stored.failed()
            ended = self._runs.get_ended(key)
            if ended is not None:
                return ended.record, None
            record = await self._stored.get(key)
            accepted = self._runs.get(key)
            if accepted is not None and (accepted.visible is not None or accepted.is_uncertain):
                continue  # Accepted while the store was read: what it said is out of date.
            if record is None:
                raise HandlerNotFound(f"No handler has the id '{split_key(key)[1]}'.")
            return record, None

    async def _find_running(self, key: str) -> tuple[RunRecord, LiveRun | None]:
        """Return the handler's current run, brought into memory where it is running."""
        record, live = await self._find(key)
        while live is None and record.status is Status.RUNNING:
            await self._stored.ask(self._runs.load(record))
            # Looked for again: since it was brought back it may have ended, or been released.
            record, live = await self._find(key)
        return record, live if record.status is Status.RUNNING else None

    async def _tail_of(self, record: RunRecord) -> EventTail | None:
        if self._runs.dismissed and record.status is Status.RUNNING:
            raise Draining("The server is about to stop; read on in a moment.")
        return await self._stored.ask(self._runs.tail_of(record))

    # Starting.

    def _reserve(self, tenant: str, handler_id: str | None) -> str:
        if handler_id is None:
            handler_id = self._make_id()
        elif not HANDLER_ID.fullmatch(handler_id):
            raise InvalidHandlerId(
                "A handler id is 1 to 255 characters of A-Z a-z 0-9 . _ ~ -, and others are not"
                " allowed."
            )
        key = handler_key(tenant, handler_id)
        if key in self._reserved or self._runs.get(key) is not None:
            raise _running(key)
        self._reserved.add(key)
        return key

    async def _prepare(
        self, workflow: ServedWorkflow, request: RunRequest, previous: RunRecord | None
    ) -> RunInput:
        if previous is not None and previous.workflow_name != workflow.name:
            raise OtherWorkflow(
                f"The handler '{previous.handler_id}' belongs to the workflow"
                f" '{previous.workflow_name}'; choose another id."
            )
        if request.context:
            return workflow.context_input(request.context, request.start_event, request.kwargs)
        start_event = workflow.read_start_event(request.start_event, request.kwargs)
        state = await self._stored.get_state(previous.run_id) if previous is not None else None
        if state is None:
            return workflow.fresh_input(start_event)
        try:
            return workflow.continued_input(start_event, state)
        except ValueError as error:
            raise StateNotRestorable(
                "The state that the handler's last run left cannot be restored."
            ) from error

    def _begin(
        self,
        key: str,
        workflow: ServedWorkflow,
        run_input: RunInput,
        previous: RunRecord | None,
    ) -> LiveRun:
        self._runs.check_room(workflow)
        tenant, handler_id = split_key(key)
        now = self._clock()
        record = RunRecord(
            run_id=self._make_id(),
            handler_id=handler_id,
            tenant=tenant,
            handler_created_at=previous.handler_created_at if previous else now,
            workflow_name=workflow.name,
            started_at=now,
            updated_at=now,
            start_event=run_input.start_envelope,
        )
        self._check_size(record.start_event or b"")
        superseded = replace(previous, current=False) if previous else None
        return self._runs.begin(record, workflow, run_input, superseded=superseded)

    def _check_size(self, event: bytes) -> None:
        if len(event) > self._limits.max_event_size:
            raise EventTooLarge(
                f"The event has {len(event)} bytes of JSON, and {self._limits.max_event_size}"
                " are allowed."
            )

    # Ending.

    async def _purge(self, key: str) -> None:
        if not await self._purge_ended(key):
            raise _running(key)

    async def _purge_ended(self, key: str) -> bool:
        """Remove every trace of an ended handler; false where it has begun to run again."""
        if key in self._reserved or self._runs.get(key) is not None:
            return False
        self._reserved.add(key)
        try:
            record = await self._store.get_handler(key)
            if record is not None and record.status is Status.RUNNING:
                return False
            await self._log.purge(key)
        except StoreError as error:
            raise StoreFailed(UNREACHABLE) from error
        finally:
            self._reserved.discard(key)
        self._runs.forget(key)
        if record is not None:
            self._positions.forget(record.run_id)
        return True


def _running(key: str) -> HandlerRunning:
    _, handler_id = split_key(key)
    return HandlerRunning(
        f"The handler '{handler_id}' is running; wait for its end, cancel it, or choose another id."
    )


def _how_it_ended(record: RunRecord) -> str:
    match record.status:
        case Status.RUNNING:
            return "it is running no more"
        case Status.COMPLETED:
            return "it completed"
        case Status.FAILED:
            return "it failed"
        case Status.CANCELLED:
            return "it was cancelled"
        case unreachable:
            assert_never(unreachable)
