"""The registry of handlers: started, answered, cancelled, purged, and read.

The registry decides; routers translate.
"""

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, assert_never

from pydantic_core import to_json
from workflows.events import StartEvent

from workflow_server.app.engine.run_input import RunInput
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.session import Clock
from workflow_server.app.engine.state_documents import merge
from workflow_server.app.errors import (
    Draining,
    EventTooLarge,
    HandlerEnded,
    HandlerHeld,
    HandlerRunning,
    InvalidHandlerId,
    NothingToCancel,
    OtherWorkflow,
    RunNotCurrent,
    StateNotRestorable,
    StoreFailed,
)
from workflow_server.app.handlers.reading import HandlerReading, Here, Place, Recent, Stored
from workflow_server.app.reads import UNREACHABLE, Reads
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.scheduling.claims import Claims
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.scheduling.restoring import Restorer
from workflow_server.app.settings import Limits
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas import names
from workflow_server.schemas.handlers import RunRequest
from workflow_server.schemas.records import HandlerKey, Phase, RunRecord, Status
from workflow_server.stores.base import StoreError

HANDLER_ID = re.compile(names.HANDLER_ID)
ID_BYTES = 8
ID_LENGTH = 10


def new_id() -> str:
    """Return a random id of 10 characters of the URL-safe alphabet (60 bits)."""
    return secrets.token_urlsafe(ID_BYTES)[:ID_LENGTH]


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
        self._clock = clock
        self._make_id = make_id
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
                raise _running(key)
            run_input = await self._prepare(workflow, request, previous)
            await self._claims.count()
            self._check_started()
            return self._begin(key, workflow, run_input, previous)
        finally:
            self._reserved.discard(key)

    async def send_event(
        self,
        key: HandlerKey,
        data: dict[str, Any] | str,
        *,
        step: str | None,
        reply_to: int | None,
        run_id: str | None = None,
    ) -> None:
        """Return once the event is written down, and so reaches the run exactly once.

        Raises `InvalidEvent`, `EventTooLarge`, `UnknownStep`, `HandlerNotFound`, `RunNotCurrent`,
        `HandlerEnded`, `HandlerHeld` or `QuestionNotOpen`.
        """
        place = await self._find_restored(key)
        if run_id is not None and run_id != place.record.run_id:
            raise RunNotCurrent(
                f"The handler '{key.id}' has another run by now, '{place.record.run_id}'; the event"
                f" is for '{run_id}'."
            )
        match place:
            case Here(run=live, record=record) if record.phase is not Phase.ENDED:
                pass
            case Here(record=record) | Recent(record=record) | Stored(record=record):
                raise _cannot_take(record)
            case unreachable:
                assert_never(unreachable)
        if reply_to is not None:
            # Before the event is read: what only a question that is answered by now has declared
            # may be unknown again, and a second answer is a conflict all the same.
            live.intake.check_open(reply_to)
        event = live.workflow.read_event(data, awaited=live.session.awaited)
        if step is not None:
            live.workflow.check_step(step, event)
        if self._limits.max_event_size < self._limits.max_body_size:
            self._check_size(to_json(data))
        await live.intake.send(event, step=step, reply_to=reply_to)

    async def cancel(self, key: HandlerKey, *, purge: bool) -> Literal["cancelled", "deleted"]:
        """Stop a running handler and, with `purge`, remove every trace of it.

        Raises `NothingToCancel` for a handler that has ended, unless it is to be purged.
        """
        record, was_running = await self._cancel(key)
        if purge:
            if not await self.purge_ended(key):
                raise _running(key)
            return "deleted"
        if not was_running or record.status is not Status.CANCELLED:
            raise NothingToCancel(
                f"The handler '{record.handler_id}' has ended already: {_how_it_ended(record)}."
            )
        return "cancelled"

    async def purge_ended(self, key: HandlerKey) -> bool:
        """Remove every trace of an ended handler; false where it has begun to run again."""
        if key in self._reserved or self._live.get(key) is not None:
            return False
        self._reserved.add(key)
        purge = self._purges[key] = asyncio.Event()
        try:
            record = await self._reads.bound(self._store.get_handler(key))
            if record is not None and record.phase is not Phase.ENDED:
                return False
            await self._log.purge(key)
        except StoreError as error:
            raise StoreFailed(UNREACHABLE) from error
        finally:
            self._reserved.discard(key)
            del self._purges[key]
            purge.set()
        self._live.forget_ended(key)
        if record is not None:
            self._positions.forget(record.run_id)
        return True

    async def purge_superseded(self, run_id: str) -> None:
        """Remove every trace of a run that another run of its handler follows."""
        try:
            await self._log.purge(run_id)
        except StoreError as error:
            raise StoreFailed(UNREACHABLE) from error
        self._positions.forget(run_id)

    async def _find_restored(self, key: HandlerKey) -> Place:
        """Return where the handler's run is, after it was brought into memory where it can go on.

        A run that is held is tried again; it stays `Stored` where it cannot go on now either.
        """
        is_tried = False
        while True:
            place = await self.find(key)
            match place:
                case Here() | Recent():
                    return place
                case Stored(record=record):
                    if record.phase is Phase.ENDED or (is_tried and record.phase is Phase.HELD):
                        return place
                    await self._restorer.restore(record.run_id)
                    is_tried = True
                case unreachable:
                    assert_never(unreachable)

    async def _cancel(self, key: HandlerKey) -> tuple[RunRecord, bool]:
        """Return the record of the run that was stopped, and whether it was running."""
        while True:
            match await self._find_restored(key):
                case Here(run=live, record=record):
                    if record.phase is Phase.ENDED:
                        return record, False
                    return await live.cancel(), True
                case Recent(record=record):
                    return record, False
                case Stored(record=record):
                    if record.phase is not Phase.HELD:
                        return record, False
                    if await self._restorer.cancel_held(record.run_id):
                        return (await self.find(key)).record, True
                    # It goes on meanwhile, for it was tried once more.
                case unreachable:
                    assert_never(unreachable)

    async def _reserve(self, tenant: str, handler_id: str | None) -> HandlerKey:
        """Return the key of a new run, which is this caller's until it gives it back.

        An ended handler that is being purged is new again when it is gone.
        """
        if handler_id is None:
            handler_id = self._make_id()
        elif not HANDLER_ID.fullmatch(handler_id):
            raise InvalidHandlerId(
                "A handler id is 1 to 255 characters of A-Z a-z 0-9 . _ ~ -, and others are not"
                " allowed."
            )
        key = HandlerKey(tenant, handler_id)
        while (purge := self._purges.get(key)) is not None:
            await purge.wait()
        if key in self._reserved or self._live.get(key) is not None:
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
        data, kwargs, own_run = request.start_event, request.kwargs, workflow.own_run
        if own_run is not None:
            if request.context:
                carried = workflow.read_context(request.context)
            else:
                carried = await self._carry(workflow, None, previous)
            return await workflow.call_own_run(own_run, data, kwargs, carried)
        if request.context:
            return workflow.context_input(request.context, data, kwargs)
        return await self._carry(workflow, workflow.read_start_event(data, kwargs), previous)

    async def _carry(
        self, workflow: ServedWorkflow, start_event: StartEvent | None, previous: RunRecord | None
    ) -> RunInput:
        """Return the input of a run that starts from the state of an earlier run, if any."""
        if previous is None:
            return workflow.fresh_input(start_event)
        state = await self._reads.ask(self._store.get_state(previous.run_id))
        if state is None:
            return workflow.fresh_input(start_event)
        try:
            return workflow.continued_input(start_event, merge(state))
        except ValueError as error:
            raise StateNotRestorable(
                "The state that the handler's last run left cannot be restored."
            ) from error

    def _begin(
        self,
        key: HandlerKey,
        workflow: ServedWorkflow,
        run_input: RunInput,
        previous: RunRecord | None,
    ) -> LiveRun:
        self._queue.check_room(workflow)
        now = self._clock()
        record = RunRecord(
            run_id=self._make_id(),
            handler_id=key.id,
            tenant=key.tenant,
            handler_created_at=previous.handler_created_at if previous else now,
            first_sequence=previous.next_sequence if previous else 0,
            workflow_name=workflow.name,
            started_at=now,
            updated_at=now,
            start_event=run_input.start_envelope,
            accepted=self._queue.count_acceptance(),
        )
        self._check_size(record.start_event or b"")
        slot = self._queue.take(workflow, record.accepted)
        superseded = replace(previous, current=False) if previous else None
        return self._live.begin(record, workflow, run_input, slot, superseded=superseded)

    def _check_size(self, event: bytes) -> None:
        if len(event) > self._limits.max_event_size:
            raise EventTooLarge(
                f"The event has {len(event)} bytes of JSON, and {self._limits.max_event_size}"
                " are allowed."
            )


def _running(key: HandlerKey) -> HandlerRunning:
    return HandlerRunning(
        f"The handler '{key.id}' is running; wait for its end, cancel it, or choose another id."
    )


def _cannot_take(record: RunRecord) -> HandlerEnded | HandlerHeld:
    """Return why a run takes no events."""
    if record.phase is Phase.HELD:
        return HandlerHeld(
            f"The handler '{record.handler_id}' is held and takes no events now."
            f" {record.held_because}"
        )
    return HandlerEnded(f"The handler '{record.handler_id}' has ended: {_how_it_ended(record)}.")


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
