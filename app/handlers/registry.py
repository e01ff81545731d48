"""The registry of handlers: started, answered, cancelled, purged, and read.

The registry decides; routers translate.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NoReturn, assert_never

from pydantic_core import to_json

from workflow_server.app.clocks import Clock
from workflow_server.app.engine.codec import encode_event
from workflow_server.app.engine.prepared import prepare_event
from workflow_server.app.engine.run_input import RunInput
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import (
    Draining,
    EventTooLarge,
    HandlerRunning,
    NothingToCancel,
    OutcomeUnknown,
    StoreFailed,
)
from workflow_server.app.handlers.ids import check_handler_id, new_id
from workflow_server.app.handlers.inputs import RunInputs
from workflow_server.app.handlers.reading import (
    Elsewhere,
    HandlerReading,
    Here,
    Place,
    Recent,
    Stored,
)
from workflow_server.app.handlers.refusals import (
    NOT_PURGED,
    PERHAPS_PURGED,
    cannot_take,
    check_current,
    elsewhere,
    how_it_ended,
)
from workflow_server.app.json_size import LARGE
from workflow_server.app.reads import UNREACHABLE, Reads
from workflow_server.app.runs.answers import running
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.scheduling.claims import Claims
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.scheduling.restoring import Restorer
from workflow_server.app.settings import Limits
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.handlers import RunRequest
from workflow_server.schemas.records import EndedHandler, HandlerKey, Phase, RunRecord, Status
from workflow_server.schemas.times import MICROSECOND, from_micros
from workflow_server.stores.base import StoreError

GIVEN_UP = "The server is about to stop, and no other one can have the run now; ask again."


class HandlerRegistry(HandlerReading):
    """Starts, answers, cancels and purges handlers; `HandlerReading` reads them."""

    def __init__(
        self,
        reads: Reads,
        log: CommitLog,
        live: LiveRuns,
        claims: Claims,
        restorer: Restorer,
        queue: RunQueue,
        *,
        limits: Limits,
        keeps_history: bool,
        clock: Clock,
        metrics: Metrics,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        super().__init__(reads, live, metrics)
        self._log = log
        self._claims = claims
        self._restorer = restorer
        self._queue = queue
        self._limits = limits
        self._keeps_history = keeps_history
        self._clock = clock
        self._make_id = make_id
        self._inputs = RunInputs(reads, max_values=limits.max_body_values)
        self._reserved: set[HandlerKey] = set()
        self._purges: dict[HandlerKey, asyncio.Event] = {}
        self.is_draining = False

    async def start_run(
        self, workflow: ServedWorkflow, request: RunRequest, *, tenant: str
    ) -> LiveRun:
        """Start a run, of a new handler of a tenant or of an ended one, and return it at once.

        Of many simultaneous requests with one handler id exactly one is accepted; the others
        raise `HandlerRunning`. Raises `TooManyRuns` where too many are queued already. A request
        that is refused leaves nothing behind.
        """
        self._check_started()
        if self.is_draining:
            raise Draining("The server is about to stop; start the run again in a moment.")
        key = await self._reserve(tenant, request.handler_id)
        try:
            previous = None
            if request.handler_id:
                previous = await self._reads.ask(self._store.get_handler(key))
            if previous is not None and previous.phase is not Phase.ENDED:
                raise running(key)
            run_input = await self._inputs.prepare(workflow, request, previous)
            if request.size >= LARGE or run_input.is_heavy:
                await workflow.codec.beside.do(run_input.prepare)
            await self._claims.count()
            self._check_started()
            self._check_store()
            keeps = self._keeps_history and workflow.keeps_history
            keeps = keeps and request.keep_history is not False
            return self._begin(key, workflow, run_input, previous, keeps_history=keeps)
        finally:
            self._reserved.discard(key)

    def wait_ended(self, live: LiveRun) -> Awaitable[RunRecord]:
        """Return the final record of a run once its end is committed; see `LiveRun.wait_ended`."""
        return live.wait_ended()

    async def send_event(
        self,
        key: HandlerKey,
        data: dict[str, Any] | str,
        *,
        step: str | None,
        reply_to: int | None,
        run_id: str | None = None,
        sent_by: str | None = None,
    ) -> None:
        """Return once the event is written down, and so reaches the run exactly once.

        Raises `InvalidEvent`, `EventTooLarge`, `UnknownStep`, `HandlerNotFound`, `RunNotCurrent`,
        `HandlerEnded`, `HandlerHeld`, `QuestionNotOpen`, `TooManyEvents` or `OutcomeUnknown`.
        """
        live = await self._find_taking(key, run_id)
        if reply_to is not None:
            # Before the event is read: what only a question that is answered by now has declared
            # may be unknown again, and a second answer is a conflict all the same.
            live.intake.check_open(reply_to)
        event = live.workflow.read_event(data, awaited=live.session.awaited)
        if step is not None:
            live.workflow.check_step(step, event)
        size = len(to_json(data))
        if self._limits.max_event_size < self._limits.max_body_size:
            self._check_size(size)
        prepared = None
        if size >= LARGE:
            codec = live.workflow.codec
            prepared = await codec.beside.do(partial(prepare_event, event, codec, encode_event))
            # Meanwhile it may have ended, or left memory.
            live = await self._find_taking(key, run_id)
        self._check_store()
        await live.intake.send(
            event, size=size, step=step, reply_to=reply_to, sent_by=sent_by, prepared=prepared
        )

    async def cancel(
        self, key: HandlerKey, *, purge: bool, run_id: str | None = None
    ) -> Literal["cancelled", "deleted"]:
        """Stop a running handler and, with `purge`, remove every trace of it.

        Raises `NothingToCancel` for a handler that has ended, unless it is to be purged, and
        `RunNotCurrent` where its current run is not the one that is named.
        """
        record, was_running = await self._cancel(key, run_id)
        if purge:
            try:
                is_purged = await self.purge_ended(EndedHandler(key, record.run_id))
            except StoreFailed as error:
                if was_running and not isinstance(error, OutcomeUnknown):
                    raise OutcomeUnknown(NOT_PURGED) from error
                raise
            if not is_purged:
                raise HandlerRunning(
                    f"The handler '{key.id}' has begun to run again, so it was not removed."
                )
            return "deleted"
        if not was_running or record.status is not Status.CANCELLED:
            raise NothingToCancel(
                f"The handler '{record.handler_id}' has ended already: {how_it_ended(record)}."
            )
        return "cancelled"

    async def purge_ended(self, ended: EndedHandler) -> bool:
        """Remove every trace of an ended handler; false where it has begun to run again."""
        key = ended.key
        await self._wait_purged(key)
        if self._is_in_use(key):
            return False
        self._reserved.add(key)
        purge = self._purges[key] = asyncio.Event()
        try:
            if not await self._purge(ended):
                return False
        finally:
            self._reserved.discard(key)
            del self._purges[key]
            purge.set()
        self._live.forget_ended(key)
        self._positions.forget(ended.run_id)
        return True

    async def purge_superseded(self, run_id: str) -> None:
        """Remove every trace of a run that another run of its handler follows."""
        while await self._reads.ask(self._store.get_run(run_id)) is not None:
            await self._write_purge(run_id)
            await self.sweep()
        self._positions.forget(run_id)

    async def sweep(self) -> None:
        """Remove what is left of all runs that were purged, also by a process before this one."""
        while purged := await self._reads.ask(self._store.list_purged()):
            await self._write_purge(purged[0])

    async def _wait_purged(self, key: HandlerKey) -> None:
        """Return when nobody purges the handler."""
        while (purge := self._purges.get(key)) is not None:
            await purge.wait()

    async def _purge(self, ended: EndedHandler) -> bool:
        """Remove a handler part by part, for as long as it is as it ended."""
        record = await self._reads.ask(self._store.get_handler(ended.key))
        self._check_store()
        while record is not None:
            if record.run_id != ended.run_id or record.phase is not Phase.ENDED:
                return False
            try:
                await self._write_purge(ended)
                await self.sweep()
                record = await self._reads.ask(self._store.get_handler(ended.key))
            except StoreFailed as error:
                raise OutcomeUnknown(PERHAPS_PURGED) from error
        return True

    async def _write_purge(self, target: EndedHandler | str) -> None:
        self._check_store()
        try:
            await self._log.purge(target)
        except StoreError as error:
            raise OutcomeUnknown(PERHAPS_PURGED) from error

    def _check_store(self) -> None:
        """Raise `StoreFailed` while the store does not write, so that nothing is begun then."""
        if self._log.is_failing:
            raise StoreFailed(UNREACHABLE)

    async def _find_restored(self, key: HandlerKey) -> Place:
        """Return where the handler's run is, after it was brought into memory where it can go on.

        A run that is held is tried again; it stays `Stored` where it cannot go on now either.
        """
        is_tried = False
        while True:
            place = await self.find(key)
            match place:
                case Here() | Recent() | Elsewhere():
                    return place
                case Stored(record=record):
                    if record.phase is Phase.ENDED or (is_tried and record.phase is Phase.HELD):
                        return place
                    if self.is_draining and self._store.peers is not None:
                        await self._pass_on(key, record)
                    await self._restorer.restore(record.run_id)
                    is_tried = True
                case unreachable:
                    assert_never(unreachable)

    async def _pass_on(self, key: HandlerKey, record: RunRecord) -> NoReturn:
        """Refuse to bring a run into memory while this server drains."""
        raise Draining(GIVEN_UP)

    async def _find_taking(self, key: HandlerKey, run_id: str | None) -> LiveRun:
        """Return the handler's run, in memory, which takes events; see `send_event`."""
        place = await self._find_restored(key)
        check_current(place.record, run_id, "the event is for")
        match place:
            case Here(run=live, record=record) if record.phase is not Phase.ENDED:
                return live
            case Here(record=record) | Recent(record=record) | Stored(record=record):
                raise cannot_take(record)
            case Elsewhere(owner=owner):
                raise elsewhere(key, owner)
            case unreachable:
                assert_never(unreachable)

    async def _cancel(self, key: HandlerKey, run_id: str | None) -> tuple[RunRecord, bool]:
        """Return the record of the run that was stopped, and whether it was running."""
        while True:
            place = await self.find(key)
            # A suspect of a crash may end the process when it is read back.
            is_put_off = isinstance(place, Stored) and self._restorer.is_put_off(
                place.record.run_id
            )
            is_stored = isinstance(place, Stored) and place.record.phase is not Phase.ENDED
            if is_stored and not is_put_off:
                place = await self._find_restored(key)
            check_current(place.record, run_id, "the cancellation is for")
            if is_put_off:
                if await self._restorer.cancel_stored(place.record.run_id):
                    return (await self.find(key)).record, True
                continue
            match place:
                case Here(run=live, record=record):
                    if record.phase is Phase.ENDED:
                        return record, False
                    self._check_store()
                    return await live.cancel(), True
                case Recent(record=record):
                    return record, False
                case Stored(record=record):
                    if record.phase is not Phase.HELD:
                        return record, False
                    self._check_store()
                    if await self._restorer.cancel_stored(record.run_id):
                        return (await self.find(key)).record, True
                    # It goes on meanwhile, for it was tried once more.
                case Elsewhere(owner=owner):
                    raise elsewhere(key, owner)
                case unreachable:
                    assert_never(unreachable)

    async def _reserve(self, tenant: str, handler_id: str | None) -> HandlerKey:
        """Return the key of a new run, which is this caller's until it gives it back.

        An ended handler that is being purged is new again when it is gone.
        """
        if not handler_id:
            handler_id = self._make_id()
        else:
            check_handler_id(handler_id)
        key = HandlerKey(tenant, handler_id)
        await self._wait_purged(key)
        if self._is_in_use(key):
            raise running(key)
        self._reserved.add(key)
        return key

    def _is_in_use(self, key: HandlerKey) -> bool:
        """Return whether the handler has a run that has not ended, or is about to have one.

        Raises `StoreFailed` for a run that clients see as ended by the store's failure: until that
        end is written down, nothing can follow it or remove it.
        """
        live = self._live.get(key)
        if live is not None and live.has_unwritten_end:
            raise StoreFailed(UNREACHABLE)
        return live is not None or key in self._reserved

    def _begin(
        self,
        key: HandlerKey,
        workflow: ServedWorkflow,
        run_input: RunInput,
        previous: RunRecord | None,
        *,
        keeps_history: bool,
    ) -> LiveRun:
        self._queue.check_room(workflow)
        now, accepted = self._clock(), self._queue.count_acceptance()
        if previous is not None:
            # The runs of a handler are listed by it, and the clock may have been set back.
            now = max(now, previous.started_at + MICROSECOND)
        record = RunRecord(
            run_id=self._make_id(),
            handler_id=key.id,
            tenant=key.tenant,
            handler_created_at=previous.handler_created_at if previous else from_micros(accepted),
            first_sequence=previous.next_sequence if previous else 0,
            workflow_name=workflow.name,
            started_at=now,
            updated_at=now,
            start_event=run_input.start_envelope,
            accepted=accepted,
            keeps_history=keeps_history,
        )
        self._check_size(len(record.start_event or b""))
        slot = self._queue.take(workflow, record.accepted, run_id=record.run_id)
        superseded = replace(previous, current=False) if previous else None
        return self._live.begin(record, workflow, run_input, slot, superseded=superseded)

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_event_size:
            raise EventTooLarge(
                f"The event has {size} bytes of JSON, and {self._limits.max_event_size}"
                " are allowed."
            )
