"""The seam: every private thing of the engine that `app/engine` uses, and what is expected of it.

A new release of the engine that changes one of them fails here, in the row that names it. Another
test reads the code of `app/engine` and fails for what is used and is not in the table.
"""

import ast
import asyncio
import dataclasses
import inspect
from collections.abc import Iterator
from contextvars import copy_context
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, get_args

import pytest
from pydantic import BaseModel, ValidationError
from workflows import Context, Workflow, step
from workflows.context.internal_context import InternalContext
from workflows.decorators import StepConfig
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event, InputRequiredEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.representation import get_workflow_representation
from workflows.runtime.control_loop.runner import _ControlLoopRunner
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import InternalContextVar, StepWorkerWaiter
from workflows.runtime.types.step_function import as_step_worker_functions
from workflows.runtime.types.ticks import WorkflowTick
from workflows.runtime.verbose import VerboseDecorator

from workflow_server.app.engine.adapters import find_step

ENGINE = Path(__file__).parents[2] / "app" / "engine"
INSIDE = ("workflows.runtime.", "workflows.plugins.", "workflows.context.", "workflows._")


class Takes(NamedTuple):
    """A callable with at least these parameters."""

    parameters: str


class Has(NamedTuple):
    """A class whose instances have at least these fields or methods."""

    members: str


class Is(NamedTuple):
    """A class that is below, or a value of, another."""

    of: str


RESULTS = "workflows.runtime.types.results"
TICKS = "workflows.runtime.types.ticks"
COMMANDS = "workflows.runtime.types.commands"
PLUGIN = "workflows.runtime.types.plugin"
STATE = "workflows.context.state_store"

# What is imported from the engine's inside, and what is expected of it.
IMPORTED: dict[str, Takes | Has | Is | None] = {
    "workflows._event_summary.summarize_event": Takes("event"),
    "workflows.context.context_types.SerializedContext": Has("workers deliveries"),
    "workflows.context.context_types.SerializedStepWorkerState": Has(
        "collected_waiters in_progress queue collected_events static_collect_events"
    ),
    "workflows.context.internal_context.InternalContext": Has("write_event_to_stream"),
    "workflows.context.pre_context.PreContext": Has(
        "init_snapshot serialized_state serializer is_running store"
    ),
    "workflows.context.serializers.BaseSerializer": Has("serialize deserialize validation_context"),
    "workflows.context.serializers.JsonSerializer": Takes("allowed_types"),
    f"{STATE}.DictState": Is("pydantic.BaseModel"),
    f"{STATE}.InMemoryStateStore": Has(
        "get set get_state _load_state_for_edit _write_state from_dict state_type"
    ),
    f"{STATE}.StateStore": None,
    f"{STATE}.infer_state_type": Takes("workflow"),
    "workflows.plugins.basic.basic_runtime": Is("workflows.runtime.types.plugin.Runtime"),
    "workflows.representation.build._create_resource_config_node": Takes(
        "resource_config type_annotation"
    ),
    "workflows.representation.build._create_resource_node": Takes("resource_def"),
    "workflows.resource._ResourceConfig": Has("label"),
    "workflows.runtime.control_loop.reduce._reduce_tick": Takes("tick init now_seconds run_id"),
    "workflows.runtime.control_loop.runner._ControlLoopRunner": Takes(
        "workflow adapter context step_workers init_state"
    ),
    "workflows.runtime.runtime_decorators.BaseRuntimeDecorator": Has(
        "register run_workflow get_internal_adapter get_serializer get_or_register"
    ),
    f"{COMMANDS}.CommandCompleteRun": Has("result"),
    f"{COMMANDS}.CommandFailWorkflow": Has("exception"),
    f"{COMMANDS}.CommandHalt": Has("exception"),
    f"{COMMANDS}.CommandPublishEvent": Has("event"),
    f"{COMMANDS}.CommandScheduleWaiterTimeout": Has("step_id waiter_id timeout"),
    f"{COMMANDS}.WorkflowCommand": None,
    "workflows.runtime.types.internal_state.BrokerState": Has(
        "from_workflow from_serialized to_serialized workers is_running elapsed_alive"
        " last_alive_stamp"
    ),
    "workflows.runtime.types.internal_state.InProgressState": Has("first_attempt_at"),
    "workflows.runtime.types.named_task.NamedTask": None,
    "workflows.runtime.types.named_task.PendingStart": Has("coro start"),
    f"{PLUGIN}.ExternalRunAdapter": None,
    f"{PLUGIN}.InternalRunAdapter": Has(
        "run_id write_to_event_stream get_now send_event wait_receive wait_for_next_task"
        " get_state_store on_tick after_tick close finalize_step"
    ),
    f"{PLUGIN}.RegisteredWorkflow": Has("workflow workflow_run_fn steps"),
    f"{PLUGIN}.Runtime": None,
    f"{PLUGIN}.WaitForNextTaskResult": Has("completed started"),
    f"{PLUGIN}.WaitResult": None,
    f"{PLUGIN}.WaitResultTick": Has("tick"),
    f"{PLUGIN}.WaitResultTimeout": Takes(""),
    f"{PLUGIN}.consume_current_run": Takes(""),
    f"{RESULTS}.AddWaiter": Has("waiter_id waiter_event requirements event_type timeout"),
    f"{RESULTS}.DeleteWaiter": Has("waiter_id"),
    f"{RESULTS}.InternalContextVar": Is("contextvars.ContextVar"),
    f"{RESULTS}.RetryAttempt": Has("retry_number first_attempt_at last_failed_at"),
    f"{RESULTS}.RetryDecision": Has("delay"),
    f"{RESULTS}.Returns": Takes("return_values"),
    f"{RESULTS}.StepFunctionResult": None,
    f"{RESULTS}.StepWorkerContext": Takes("event state returns retry"),
    f"{RESULTS}.StepWorkerFailed": Has("exception failed_at retry_decision first_attempt_at"),
    f"{RESULTS}.StepWorkerOutput": None,
    f"{RESULTS}.StepWorkerResult": Has("result"),
    f"{RESULTS}.StepWorkerState": Has("invocation_id"),
    f"{RESULTS}.StepWorkerStateContextVar": Is("contextvars.ContextVar"),
    f"{RESULTS}.StepWorkerWaiter": Has("requirements waiter_id waiting_for_event"),
    f"{RESULTS}.WaitingForEvent": Has("add"),
    "workflows.runtime.types.step_function.StepWorkerFunction": None,
    "workflows.runtime.types.step_function.as_step_worker_functions": Takes("workflow"),
    "workflows.runtime.types.step_function.create_workflow_run_function": Takes(
        "workflow control_loop_fn"
    ),
    "workflows.runtime.types.step_id.StepId": Has("root from_str"),
    f"{TICKS}.TickAddEvent": Has("event step_id"),
    f"{TICKS}.TickCancelRun": Takes(""),
    f"{TICKS}.TickIdleCheck": Takes(""),
    f"{TICKS}.TickSessionStart": Has("stamped_at"),
    f"{TICKS}.TickStepResult": Has("event result step_id invocation_id stamped_at"),
    f"{TICKS}.TickTimeout": Has("timeout stamped_at"),
    f"{TICKS}.TickWaiterTimeout": Has("step_id waiter_id"),
    f"{TICKS}.WorkflowTick": None,
    f"{TICKS}.WorkflowTickAdapter": Is("pydantic.TypeAdapter"),
    "workflows.runtime.verbose.VerboseDecorator": Is(
        "workflows.runtime.runtime_decorators.BaseRuntimeDecorator"
    ),
}

# Private attributes of the engine's objects, each of a sample that `make_samples` makes.
PRIVATE = {
    "_create_internal": "context class",
    "_data": "event",
    "_decorated": "verbose",
    "_dispatcher": "workflow",
    "_face": "context",
    "_finalize_step": "context",
    "_get_steps": "workflow",
    "_internal_adapter": "face",
    "_num_concurrent_runs": "workflow",
    "_runtime": "workflow",
    "_stamp_retry_decisions": "runner",
    "_step_config": "step",
    "_step_functions_version": "workflow class",
    "_store": "face before a run",
    "_switch_runtime": "workflow",
    "_timeout": "workflow",
    "_verbose": "workflow",
    "_workflow_run": "context class",
}
OURS = ("_settled",)  # of another object of the same class

# Public attributes of objects that are themselves inside.
MEMBERS = {
    "runner": (
        "state tick_buffer scheduled_wakeups schedule_tick run cleanup_tasks worker_tasks"
        " _pending_workers _task_keys"
    ),
    "worker": "queue in_progress collected_waiters",
    "step config": (
        "accepted_events accept_event_subclasses event_name context_parameter resources"
        " is_fan_out collection_param"
    ),
}


class Asks(Workflow):
    """Asks, so that there is a waiter."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(StopEvent, waiter_event=InputRequiredEvent())
        return StopEvent()


def resolve(name: str) -> Any:
    """Return what a dotted name means."""
    module, _, member = name.rpartition(".")
    return getattr(import_module(module), member)


def list_members(thing: Any) -> set[str]:
    """Return the names that instances of a class have: fields, annotated names and methods."""
    names = set(dir(thing))
    for base in thing.__mro__:
        names |= set(getattr(base, "__annotations__", {}))
    if isinstance(thing, type) and issubclass(thing, BaseModel):
        names |= set(thing.model_fields)
    if dataclasses.is_dataclass(thing):
        names |= {field.name for field in dataclasses.fields(thing)}
    return names


@pytest.mark.parametrize(("name", "expected"), IMPORTED.items(), ids=list(IMPORTED))
def test_what_is_imported_is_as_expected(name: str, expected: Takes | Has | Is | None) -> None:
    thing = resolve(name)
    match expected:
        case Takes(parameters=parameters):
            assert set(parameters.split()) <= set(inspect.signature(thing).parameters)
        case Has(members=members):
            for member in get_args(thing) or (thing,):  # a union or a class
                assert set(members.split()) <= list_members(member)
        case Is(of=of):
            base = resolve(of)
            assert isinstance(thing, base) or issubclass(thing, base)
        case None:
            assert thing is not None  # named in annotations alone


def test_the_builder_of_graphs_finds_by_name_what_is_put_in_the_place_of_its_own() -> None:
    code = get_workflow_representation.__code__
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    called = {name for each in (code, *inner) for name in each.co_names}
    assert called >= {"_event_schema", "_create_resource_config_node", "_create_resource_node"}


async def make_samples() -> dict[str, Any]:
    """Return an object of each kind whose attributes are used."""
    workflow = Asks(timeout=None)
    seen: dict[str, Any] = {}
    find_steps = workflow._get_steps

    def get_steps() -> Any:
        find_context = InternalContextVar.get(None)
        if find_context is not None:
            seen["context"] = find_context()
        return find_steps()

    workflow._get_steps = get_steps  # type: ignore[method-assign]  # as the shortcuts do
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    await handler.cancel_run()
    broker = BrokerState.from_workflow(workflow)
    runner = _ControlLoopRunner(workflow, None, None, {}, broker)  # type: ignore[arg-type]  # not run
    [one_step] = find_steps().values()
    return {
        "workflow": workflow,
        "workflow class": Asks,
        "context class": Context,
        "context": seen["context"],
        "face": seen["context"]._face,
        "face before a run": Context(workflow)._face,
        "event": Event(),
        "step": one_step,
        "step config": one_step._step_config,
        "verbose": VerboseDecorator(workflow.runtime),
        "runner": runner,
        "worker": next(iter(broker.workers.values())),
    }


async def test_objects_have_the_attributes_that_are_used() -> None:
    samples = await make_samples()
    missing = [
        f"{sample}.{name}" for name, sample in PRIVATE.items() if not hasattr(samples[sample], name)
    ]
    missing += [
        f"{sample}.{name}"
        for sample, names in MEMBERS.items()
        for name in names.split()
        if not hasattr(samples[sample], name)
    ]
    assert missing == []
    assert isinstance(samples["step config"], StepConfig)


async def test_a_step_looks_for_its_steps_when_its_context_is_made_and_not_used_yet() -> None:
    samples = await make_samples()
    assert type(samples["face"]) is InternalContext


async def test_a_step_runs_in_a_frame_that_tells_its_name() -> None:
    names: list[str | None] = []

    class Looks(Workflow):
        @step
        async def look(self, ev: StartEvent) -> StopEvent:
            task = asyncio.current_task()
            assert task is not None
            names.append(find_step(inspect.currentframe()))
            return StopEvent()

    await Looks().run()
    assert names == ["look"]


def test_the_wrappers_of_steps_are_found_by_the_names_of_the_steps() -> None:
    assert list(copy_context().run(as_step_worker_functions, Asks())) == ["ask"]


def test_a_waiter_says_what_it_waits_for() -> None:
    fields = {"waiter_id", "waiting_for_event", "requirements", "resolved_event", "timed_out"}
    assert fields <= list_members(StepWorkerWaiter)


async def test_a_run_begins_in_its_context_with_its_start_event() -> None:
    begun: list[tuple[Workflow, StartEvent | None]] = []

    class Noting(Context[Any]):
        def _workflow_run(
            self, workflow: Workflow, start_event: StartEvent | None, run_id: str | None = None
        ) -> WorkflowHandler:
            begun.append((workflow, start_event))
            return super()._workflow_run(workflow, start_event, run_id)

    workflow, event = Asks(timeout=None), StartEvent()
    await workflow.run(ctx=Noting(workflow), start_event=event).cancel_run()
    assert begun == [(workflow, event)]


async def test_a_start_event_of_wrong_fields_is_refused_with_what_was_wrong_as_context() -> None:
    class Begin(StartEvent):
        topic: str

    class Begins(Workflow):
        @step
        async def go(self, ev: Begin) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowRuntimeError) as raised:
        Begins().run()
    assert isinstance(raised.value.__context__, ValidationError)


def test_the_state_that_a_new_workflow_has_equals_another() -> None:
    workflow = Asks()
    assert BrokerState.from_workflow(workflow) == BrokerState.from_workflow(workflow)


def test_every_kind_of_tick_is_known_by_its_discriminator() -> None:
    union, *_ = get_args(WorkflowTick)
    kinds = {member.model_fields["type"].default for member in get_args(union)}
    assert {"add_event", "cancel_run", "idle_check", "session_start", "step_result"} <= kinds


def list_uses() -> Iterator[str]:
    """Yield what the code of `app/engine` uses of the engine's inside, by name."""
    for file in sorted(ENGINE.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    private = name.startswith("workflows.") and alias.name.startswith("_")
                    if name.startswith(INSIDE) or private:
                        yield name
            elif isinstance(node, ast.Attribute) and is_private(node.attr):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                if not own:
                    yield node.attr


def is_private(name: str) -> bool:
    """Tell whether a name begins with one underscore."""
    return name.startswith("_") and not name.startswith("__")


def test_the_table_has_all_that_is_used_and_nothing_else() -> None:
    # Called on `super()`, in the table with their class.
    inherited = {"_write_state", "_load_state_for_edit"}
    used = set(list_uses()) - set(OURS) - inherited
    # Set on `self` by a base class of the engine's.
    used |= {"_decorated", "_internal_adapter"}
    assert used == {*IMPORTED, *PRIVATE}
