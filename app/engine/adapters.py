"""The engine's runtime interface, put on top of a run that journals.

A workflow that is served gets a `JournalRuntime`. Runs that the service starts carry their
`Session` in a context variable, and every internal adapter that the engine makes for such a run
(one for its control loop, one for each step) is a thin face of that one session. Runs that a step
starts itself, by `await other_workflow.run()`, belong to that step: they go to the runtime that
the workflow had before.
"""

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from contextvars import ContextVar
from dataclasses import replace
from time import perf_counter
from types import FrameType
from typing import Any, NoReturn

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from workflows import Context, Workflow
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import StateStore
from workflows.events import Event, StartEvent, StopEvent
from workflows.runtime.runtime_decorators import BaseRuntimeDecorator
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.named_task import NamedTask, PendingStart
from workflows.runtime.types.plugin import (
    ExternalRunAdapter,
    InternalRunAdapter,
    RegisteredWorkflow,
    Runtime,
    WaitForNextTaskResult,
    WaitResult,
    WaitResultTick,
    WaitResultTimeout,
    consume_current_run,
)
from workflows.runtime.types.results import RetryAttempt, StepWorkerFailed, StepWorkerOutput
from workflows.runtime.types.step_function import (
    StepWorkerFunction,
    as_step_worker_functions,
    create_workflow_run_function,
)
from workflows.runtime.types.ticks import WorkflowTick
from workflows.runtime.verbose import VerboseDecorator

from workflow_server.app.engine.direct_steps import execute_directly
from workflow_server.app.engine.outcome import judge_step
from workflow_server.app.engine.own_run import Beginning, leaving_own_run
from workflow_server.app.engine.pace import paced
from workflow_server.app.engine.session import Session
from workflow_server.app.engine.shortcuts import EventWriter, is_observed, take_shortcuts
from workflow_server.app.engine.step_threads import watch_threads
from workflow_server.app.engine.steps import Runner, attempt_step
from workflow_server.app.telemetry.logs import Traceback, get_logger, place_of

logger = get_logger(__name__)


_session: ContextVar[Session | None] = ContextVar("workflow_server_session", default=None)
# The same, and in the runs that a step starts for itself, too.
_outermost: ContextVar[Session | None] = ContextVar("workflow_server_outermost", default=None)


class RunAdapter(EventWriter):
    """The engine's internal side of a run."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def run_id(self) -> str:
        return self._session.run_id

    async def write_to_event_stream(self, event: Event) -> None:
        await self._session.write_event(event)

    def write_at_once(self, event: Event) -> None:
        self._session.write_at_once(event)

    def refuse(self, sentence: str) -> NoReturn:
        self._session.refuse(sentence)

    async def get_now(self) -> float:
        return self._session.now()

    async def send_event(self, tick: WorkflowTick) -> None:
        self._session.mailbox.put_nowait(tick)

    async def wait_receive(self, timeout_seconds: float | None = None) -> WaitResult:
        mailbox = self._session.mailbox
        try:
            async with asyncio.timeout(timeout_seconds):
                return WaitResultTick(tick=await mailbox.get())
        except TimeoutError:
            return WaitResultTimeout()

    async def wait_for_next_task(
        self,
        running: list[NamedTask],
        pending: list[PendingStart],
        timeout: float | None = None,
    ) -> WaitForNextTaskResult:
        # Not by the loop, whose tasks are watched where steps make them.
        started = [start.start(asyncio.Task(start.coro)) for start in pending]
        try:
            waited = await super().wait_for_next_task([*running, *started], [], timeout)
        except asyncio.CancelledError:
            # The engine does not know of these yet, and its clean-up would leave them running.
            self._session.cut_off.cancel(named.task for named in started)
            raise
        return WaitForNextTaskResult(waited.completed, started)

    def get_state_store(self, namespace: tuple[str, ...] = ()) -> StateStore[Any] | None:
        return None if namespace else self._session.state

    async def on_tick(self, tick: WorkflowTick) -> None:
        await self._session.take_tick(tick)

    async def after_tick(self, tick: WorkflowTick) -> None:
        self._session.after_tick()
        if self._session.owes_snapshot:
            await self._session.keep_snapshot()
        if not self._session.has_room:
            await self._session.wait_for_room()


class JournalRuntime(BaseRuntimeDecorator):
    """The runtime of one served workflow; it keeps no state of any run."""

    def __init__(self, workflow: Workflow, decorated: Runtime) -> None:
        super().__init__(decorated)
        self._workflow = workflow
        self._run_function = create_workflow_run_function(workflow, _control_loop)
        self._registered: RegisteredWorkflow | None = None
        self._registered_version = -1

    @classmethod
    def install(cls, workflow: Workflow) -> "JournalRuntime":
        """Return the workflow's journal runtime, made and put in place once a workflow."""
        current = workflow.runtime
        if isinstance(current, VerboseDecorator):
            current = current._decorated
        if isinstance(current, cls):
            return current
        runtime = cls(workflow, current)
        take_shortcuts(workflow)
        watch_threads(workflow, find_session)
        # Not `_switch_runtime`: it refuses a workflow that has run before it is registered.
        workflow._runtime = VerboseDecorator(runtime) if workflow._verbose else runtime
        return runtime

    def execute(
        self,
        session: Session,
        tags: dict[str, Any],
    ) -> Coroutine[None, None, StopEvent]:
        """Return the run as a coroutine; it ends with the stop event or raises what ended it.

        `tags` are the instrumentation tags that are active in its steps.
        """
        run_input = session.run_input
        tags = {**active_instrument_tags.get(), **tags}
        if not is_observed(get_dispatcher()):
            return _in_context(self._run_without_span(session, tags), session)
        with instrument_tags(tags):
            propagated = get_dispatcher().capture_propagation_context()
        run = self._run_function(run_input.broker, run_input.start_event, propagated)
        return _in_context(run, session)

    async def _run_without_span(self, session: Session, tags: dict[str, Any]) -> StopEvent:
        """Run as the engine's own run function does, without a span that nobody would see."""
        workflow, run_input = self._workflow, session.run_input
        active_instrument_tags.set(tags)
        context: Context[Any] = Context._create_internal(workflow=workflow)
        steps = workflow._runtime.get_or_register(workflow).steps
        adapter = workflow._runtime.get_internal_adapter(workflow)
        runner = Runner(workflow, adapter, context, steps, run_input.broker)
        session.begin(runner)
        return await runner.run(start_event=run_input.start_event)

    def register(self, workflow: Workflow) -> RegisteredWorkflow:
        """Return the workflow's step functions, wrapped once and not for every run."""
        version = type(workflow)._step_functions_version
        if self._registered is None or self._registered_version != version:
            self._registered = RegisteredWorkflow(
                workflow=workflow,
                workflow_run_fn=create_workflow_run_function(workflow),
                steps={
                    name: _guard_step(name, execute_directly(function))
                    for name, function in as_step_worker_functions(workflow).items()
                },
            )
            self._registered_version = version
        return self._registered

    def run_workflow(
        self,
        run_id: str,
        workflow: Workflow,
        init_state: BrokerState,
        start_event: StartEvent | None = None,
        serialized_state: dict[str, Any] | None = None,
        serializer: BaseSerializer | None = None,
    ) -> ExternalRunAdapter:
        """Start a run that a step, or the program around the server, starts for itself."""
        beginning = Beginning(start_event, init_state, serialized_state, serializer)
        with leaving_own_run(workflow, beginning):
            token = _session.set(None)
            try:
                return self._decorated.run_workflow(
                    run_id, workflow, init_state, start_event, serialized_state, serializer
                )
            finally:
                _session.reset(token)

    def get_internal_adapter(self, workflow: Workflow) -> InternalRunAdapter:
        session = _session.get()
        return RunAdapter(session) if session else self._decorated.get_internal_adapter(workflow)


def _guard_step(name: str, function: StepWorkerFunction) -> StepWorkerFunction:
    """Let a step fail as `attempt_step` says; that it has failed is logged, and it is counted."""

    async def guarded(*args: Any, **kwargs: Any) -> list[StepWorkerOutput]:
        session, began = _session.get(), perf_counter()
        trace, cut_off = (session.trace, session.cut_off) if session is not None else (None, None)
        if session is not None and kwargs["retry"].retry_number:
            kwargs["retry"] = _by_wall_clock(kwargs["retry"], time.time() - session.now())
        work: Awaitable[list[StepWorkerOutput]] = attempt_step(function, cut_off, *args, **kwargs)
        if session is not None:
            work = paced(work, session)
        outputs = await (work if trace is None else trace.trace_step(name, work))
        status, error = judge_step(outputs)
        if error is not None:
            _log_failure(name, error)
            if session is not None:
                outputs = [_stamp(output, session.now()) for output in outputs]
        if session is not None:
            seconds = perf_counter() - began
            session.count_step(name, status, seconds)
            number = kwargs["retry"].retry_number + 1
            session.note_attempt(kwargs["state"].invocation_id, number, seconds, error)
        return outputs

    return guarded


def _stamp(output: StepWorkerOutput, now: float) -> StepWorkerOutput:
    """Return an output with a failure at this time, where the engine takes the wall clock's."""
    if isinstance(output, StepWorkerFailed):
        return output.model_copy(update={"failed_at": now})
    return output


def _by_wall_clock(retry: RetryAttempt, ahead: float) -> RetryAttempt:
    """Return what a step is told of its attempts, by the clock with which it compares that."""
    failed_at = retry.last_failed_at
    return replace(
        retry,
        first_attempt_at=retry.first_attempt_at + ahead,
        last_failed_at=failed_at + ahead if failed_at is not None else None,
    )


def _log_failure(step: str, error: BaseException) -> None:
    """Log where a step has failed; what its exception says may quote what the workflow carries."""
    logger.warning(
        "step failed",
        step=step,
        error=type(error).__qualname__,
        at=place_of(error),
        traceback=Traceback(error),
    )


def find_session() -> Session | None:
    """Return the session of the run to which the present code belongs, or None outside of runs."""
    return _session.get()


def find_outermost() -> Session | None:
    """Return the session of the run that has, perhaps by runs of its steps, begun what runs now."""
    return _outermost.get()


async def _in_context(run: Coroutine[None, None, StopEvent], session: Session) -> StopEvent:
    token, outermost = _session.set(session), _outermost.set(session)
    try:
        return await run
    finally:
        _session.reset(token)
        _outermost.reset(outermost)


async def _control_loop(
    start_event: Event | None, init_state: BrokerState | None, run_id: str
) -> StopEvent:
    """Run the engine's control loop as it does itself, and show the session its runner."""
    run = consume_current_run()
    state = init_state or BrokerState.from_workflow(run.workflow)
    runner = Runner(run.workflow, run.run_adapter, run.context, run.steps, state)
    session = _session.get()
    assert session is not None  # `execute` runs this for a session alone
    session.begin(runner)
    return await runner.run(start_event=start_event)


def find_step(frame: FrameType | None) -> str | None:
    """Return the name of the step that a stack of calls is in, or None where it is in none."""
    while frame is not None:
        # The engine's wrapper of every step has the step's name as its parameter.
        if frame.f_code.co_name == "wrapper" and "step_name" in frame.f_locals:
            return str(frame.f_locals["step_name"])
        frame = frame.f_back
    return None


def find_run(frame: FrameType | None) -> str | None:
    """Return the id of the run whose step a stack of calls is in, or None where it is in none."""
    while frame is not None:
        # Our wrapper of every step has the run's session.
        if frame.f_code.co_name == "guarded" and frame.f_locals.get("session") is not None:
            return str(frame.f_locals["session"].run_id)
        frame = frame.f_back
    return None
