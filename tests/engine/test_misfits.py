"""Why a run does not fit the code is told in the words of its workflow."""

import re

import pytest
from pydantic import BaseModel, ValidationError
from workflows.context.context_types import (
    SerializedContext,
    SerializedDelivery,
    SerializedEventAttempt,
    SerializedInProgressAttempt,
    SerializedStepWorkerState,
    SerializedWaiter,
)
from workflows.events import StartEvent
from workflows.runtime.types.results import StepWorkerResult
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, TickWakeup

from workflow_server.app.engine.misfits import (
    Misfit,
    cannot_follow,
    find_lost_wait,
    find_lost_work,
    not_served,
    unreadable,
)
from workflow_server.app.engine.values.faults import NotReadable
from workflow_server.schemas.records import Awaited

INSIDE = re.compile(r"tick|worker|waiter|broker|invocation|journal|input_value|pydantic|secret")
WAITER = SerializedWaiter(
    waiter_id="waiter-1",
    event="{}",
    waiting_for_event='"app:Forms.Reply"',
    has_requirements=False,
)
WORK = {
    "it waits there for Reply": SerializedStepWorkerState(collected_waiters=[WAITER]),
    "it was at work there": SerializedStepWorkerState(
        in_progress=[SerializedInProgressAttempt(event="{}", worker_id=0, invocation_id="i")]
    ),
    "an event waits there to be taken": SerializedStepWorkerState(
        queue=[SerializedEventAttempt(event="{}")]
    ),
    "it collects events there": SerializedStepWorkerState(collected_events={"all": ["{}"]}),
}
KNOWN = frozenset({"begin"})


class Order(BaseModel):
    amount: int


def invalid_order() -> ValidationError:
    """Return what pydantic says of an order that has no amount."""
    with pytest.raises(ValidationError) as raised:
        Order.model_validate({"amount": "secret"})
    return raised.value


def step_ended(step: str) -> TickStepResult:
    """Return a tick with which a step has ended."""
    return TickStepResult(
        step_id=StepId.root(step),
        worker_id=0,
        event=StartEvent(),
        result=[StepWorkerResult(result=None)],
    )


OTHER = (
    "its steps are not those that it has been through; with those that there are, it would have"
    " gone another way where"
)
SENTENCES = [
    (not_served("orders"), "its workflow is no longer served as 'orders'."),
    (
        unreadable(NotReadable("there is no class 'app.Order' in what is loaded")),
        "what is stored of it does not fit the code; there is no class 'app.Order' in what is"
        " loaded.",
    ),
    (
        unreadable(invalid_order()),
        "what is stored of it does not fit the code; Order does not take it (amount: Input should"
        " be a valid integer, unable to parse string as an integer).",
    ),
    (
        cannot_follow(step_ended("gone"), KNOWN),
        "its step 'gone' is gone; it took StartEvent there, and what became of that cannot be"
        " told.",
    ),
    (cannot_follow(step_ended("begin"), KNOWN), f"{OTHER} its step 'begin' took StartEvent."),
    (cannot_follow(TickAddEvent(event=StartEvent()), KNOWN), f"{OTHER} it took StartEvent."),
    (cannot_follow(TickWakeup(due=1.0), KNOWN), f"{OTHER} it went on after a pause."),
]


@pytest.mark.parametrize(("misfit", "sentence"), SENTENCES)
def test_a_misfit_is_told_in_the_words_of_the_workflow(misfit: Misfit, sentence: str) -> None:
    assert str(misfit) == f"The run could not be resumed: {sentence}"
    assert INSIDE.findall(str(misfit)) == []


@pytest.mark.parametrize("work", WORK)
def test_work_of_a_step_that_is_gone_is_told(work: str) -> None:
    context = SerializedContext(workers={"begin": WORK[work], "review": WORK[work]})
    lost = find_lost_work(context, KNOWN)
    assert str(lost) == f"The run could not be resumed: its step 'review' is gone; {work}."


def test_a_wait_in_a_step_that_is_gone_is_told() -> None:
    wait = Awaited(waiter_id="waiter-1", event_class="app.Reply", step="review")
    lost = find_lost_wait([wait], KNOWN)
    assert str(lost) == (
        "The run could not be resumed: its step 'review' is gone; it waits there for Reply."
    )


def test_an_event_on_its_way_to_a_step_that_is_gone_is_told() -> None:
    delivery = SerializedDelivery(invocation_id="i", index=0, event="{}", step_id="review")
    lost = find_lost_work(SerializedContext(deliveries=[delivery]), KNOWN)
    assert str(lost) == (
        "The run could not be resumed: its step 'review' is gone; an event that was sent to it is"
        " on its way there."
    )


def test_steps_that_are_there_or_have_nothing_to_do_lose_nothing() -> None:
    workers = {"begin": WORK["it was at work there"], "ended": SerializedStepWorkerState()}
    assert find_lost_work(SerializedContext(workers=workers), KNOWN) is None
