"""`awaits`: what a run waits for, beside what else it does, and which events settle a question."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import BaseModel, model_serializer
from workflows import Context, Workflow, step
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
)

from tests.support.awaiting import Interview, Permit, Stuck
from tests.support.calls import Json, answer, result_of, run, send, start, start_asker
from tests.support.live import open_client, serve_workflow
from tests.support.waiting import until
from tests.support.workflows import Answer, Ask, Question
from workflow_server.app.server import WorkflowServer


async def get(client: httpx.AsyncClient, handler_id: str) -> Json:
    """Return a handler."""
    handler: Json = (await client.get(f"/handlers/{handler_id}")).json()
    return handler


async def wait_waiting(client: httpx.AsyncClient, handler_id: str) -> Json:
    """Return a handler once its run waits."""

    async def waits() -> bool:
        phase: str = (await get(client, handler_id))["phase"]
        return phase == "waiting"

    await until(waits)
    return await get(client, handler_id)


def types_of(events: list[Json]) -> list[str]:
    """Return the classes of awaited events."""
    return [event["type"] for event in events]


class Branch(Event):
    pass


class Beside(Workflow):
    """Waits for a person in one step while another one is at work."""

    @step
    async def fork(self, ctx: Context, ev: StartEvent) -> Branch | None:
        ctx.send_event(Branch())
        return None

    @step
    async def work(self, ev: Branch) -> StopEvent:
        await asyncio.Event().wait()
        return StopEvent()

    @step
    async def ask(self, ctx: Context, ev: Branch) -> StopEvent:
        permit = await ctx.wait_for_event(Permit, waiter_event=Question(prompt="May I?"))
        return StopEvent(result=permit.granted)


class Shown(BaseModel):
    """A required value that counts how often it was shown."""

    times: ClassVar[int] = 0

    @model_serializer
    def show(self) -> str:
        Shown.times += 1
        return "shown"


class Round(Event):
    number: int


class BusyBeside(Workflow):
    """Waits in one step while another one goes through many rounds."""

    @step
    async def fork(self, ctx: Context, ev: StartEvent) -> Branch | Round | None:
        ctx.send_event(Branch())
        return None

    @step
    async def ask(self, ctx: Context, ev: Branch) -> Round | None:
        ctx.send_event(Round(number=0))
        await ctx.wait_for_event(Permit, waiter_id="w", requirements={"granted": Shown()})
        return None

    @step
    async def go_on(self, ev: Round) -> Round | StopEvent:
        return Round(number=ev.number + 1) if ev.number < 50 else StopEvent()


async def test_what_a_run_waits_for_is_looked_at_once_however_much_it_does_meanwhile() -> None:
    Shown.times = 0
    async with serve_workflow(BusyBeside(timeout=None)) as client:
        await run(client, "it")
    assert Shown.times == 1


async def test_a_run_that_also_works_says_what_answers_its_question() -> None:
    async with serve_workflow(Beside(timeout=None)) as client:
        handler_id = await start_asker(client, "it")
        handler = await get(client, handler_id)
        [question] = handler["questions"]
        assert (handler["phase"], types_of(handler["awaits"]["events"])) == ("working", ["Permit"])
        assert types_of(question["awaits"]) == ["Permit"]


async def test_a_run_that_does_not_wait_awaits_nothing(client: httpx.AsyncClient) -> None:
    ended = await run(client, "greeter", name="Ada")
    asleep = await start(client, "sleeper")
    assert (ended["awaits"], ended["questions"]) == (None, [])
    assert (await get(client, asleep))["awaits"] is None


async def test_the_timeout_of_a_workflow_is_a_timer() -> None:
    before = datetime.now(UTC)
    async with serve_workflow(Interview(timeout=1_000)) as client:
        handler = await wait_waiting(client, await start(client, "it"))
    [timer] = handler["awaits"]["timers"]
    due_at = datetime.fromisoformat(timer.pop("due_at"))
    assert timer == {"kind": "workflow", "waiter_id": None}
    assert before < due_at - timedelta(seconds=900) < before + timedelta(seconds=1_000)


async def test_a_run_that_waits_for_nothing_but_its_timeout_can_go_on() -> None:
    async with serve_workflow(Stuck(timeout=1_000)) as client:
        handler = await wait_waiting(client, await start(client, "it"))
    assert handler["awaits"]["stuck_because"] is None


class Resolved(Workflow):
    """Waits for an event, with a timer that is of no use any more, and then for nothing."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
        await ctx.wait_for_event(Permit, timeout=3_600)
        return None


async def test_the_timer_of_a_wait_that_was_answered_makes_nothing_go_on() -> None:
    async with serve_workflow(Resolved(timeout=None)) as client:
        handler = await wait_waiting(client, await start(client, "it"))
        assert len(handler["awaits"]["timers"]) == 1
        await send(client, handler["handler_id"], "Permit", {"granted": True})

        async def stuck() -> bool:
            awaits = (await get(client, handler["handler_id"]))["awaits"]
            return awaits is not None and awaits["stuck_because"] is not None

        await until(stuck)
        assert (await get(client, handler["handler_id"]))["awaits"]["timers"] == []


async def test_that_a_run_can_never_go_on_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with serve_workflow(Stuck(timeout=None)) as client:
        handler = await wait_waiting(client, await start(client, "it"))
        with caplog.at_level(logging.WARNING):
            for _ in range(3):  # of which none is taken by a step
                sent = await send(client, handler["handler_id"], "StopEvent", {})
                assert sent.status_code == 200, sent.text
        await wait_waiting(client, handler["handler_id"])
    said = [record for record in caplog.records if "can never go on" in record.getMessage()]
    assert len(said) == 1


class Exact(Permit):
    """A subclass, which the waiting step does not take."""


class Strict(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        permit = await ctx.wait_for_event(Permit, waiter_event=Question(prompt="May I?"))
        return StopEvent(result=permit.granted)

    @step
    async def declare(self, ev: Exact) -> None:
        """Declare the subclass, so that it can be sent."""


async def test_an_answer_of_a_subclass_that_the_wait_does_not_take_leaves_the_question_open() -> (
    None
):
    async with serve_workflow(Strict(timeout=None)) as client:
        handler_id = await start_asker(client, "it")
        [question] = (await wait_waiting(client, handler_id))["questions"]
        reply = {"reply_to": question["sequence"]}
        wrong = await send(client, handler_id, "Exact", {"granted": False}, **reply)
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_event")
        right = await send(client, handler_id, "Permit", {"granted": True}, **reply)
        assert right.status_code == 200, right.text
        assert await result_of(client, handler_id) is True


class Two(Workflow):
    """Returns a question, which a step takes the answer of, and waits for another event beside."""

    @step
    async def fork(self, ctx: Context, ev: Ask) -> Question | Branch:
        ctx.send_event(Branch())
        return Question(prompt="returned")

    @step
    async def take(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)

    @step
    async def wait(self, ctx: Context, ev: Branch) -> None:
        await ctx.wait_for_event(Permit, waiter_event=Question(prompt="waiting"))


async def test_the_answer_of_a_wait_leaves_the_question_of_a_step_open() -> None:
    async with serve_workflow(Two(timeout=None)) as client:
        handler_id = await start(client, "it")
        handler = await wait_waiting(client, handler_id)
        answers = {q["text"]: types_of(q["awaits"]) for q in handler["questions"]}
        assert answers == {"returned": ["Answer"], "waiting": ["Permit"]}
        await send(client, handler_id, "Permit", {"granted": True})
        handler = await wait_waiting(client, handler_id)
        assert [question["text"] for question in handler["questions"]] == ["returned"]
        [question] = handler["questions"]
        await answer(client, handler_id, "yes", reply_to=question["sequence"])
        assert await result_of(client, handler_id) == "yes"


async def test_an_answer_that_nobody_waits_for_yet_does_not_spend_the_question() -> None:
    ready = asyncio.Event()

    class Slow(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(Question(prompt="early"))
            await ready.wait()
            reply = await ctx.wait_for_event(Answer)
            return StopEvent(result=reply.text)

    server = WorkflowServer()
    server.add_workflow("it", Slow(timeout=None), additional_events=[Answer])
    async with open_client(server) as client:
        handler_id = await start_asker(client, "it")
        [question] = (await get(client, handler_id))["questions"]
        early = await answer(client, handler_id, "early", reply_to=question["sequence"])
        assert (early.status_code, early.json()["code"]) == (400, "invalid_event")
        ready.set()
        await wait_waiting(client, handler_id)
        sent = await answer(client, handler_id, "in time", reply_to=question["sequence"])
        assert sent.status_code == 200, sent.text
        assert await result_of(client, handler_id) == "in time"


class Many(Workflow):
    @step(num_workers=200)
    async def ask(self, ctx: Context, ev: Branch) -> StopEvent:
        permit = await ctx.wait_for_event(Permit, timeout=None)
        return StopEvent(result=permit.granted)

    @step
    async def fork(self, ctx: Context, ev: StartEvent) -> Branch | None:
        for _ in range(150):
            ctx.send_event(Branch())
        return None


async def test_of_many_waits_the_first_hundred_are_told_and_ten_in_lists() -> None:
    async with serve_workflow(Many(timeout=None)) as client:
        handler = await wait_waiting(client, await start(client, "it"))
        [listed] = (await client.get("/handlers")).json()["handlers"]
    assert types_of(handler["awaits"]["events"]) == ["Permit"] * 100
    assert types_of(listed["awaits"]["events"]) == ["Permit"] * 10


class Named(InputRequiredEvent):
    number: int
    name: str
    prefix: str = ""


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (InputRequiredEvent(prefix="How?", msg="no"), "How?"),  # type: ignore[call-arg]  # any fields
        (InputRequiredEvent(msg="How?", prefix=1), "How?"),  # type: ignore[call-arg]  # any fields
        (Named(number=1, name="no", prefix="How?"), "How?"),
        (Named(number=1, name="How?"), "How?"),
        (Named(number=1, name=" ", prefix=""), None),
        (InputRequiredEvent(), None),
        (InputRequiredEvent(prefix="x" * 2_000), "x" * 999 + "…"),  # type: ignore[call-arg]  # any fields
        (InputRequiredEvent(prefix="\ud800 \0 \u2028"), "\ufffd \0 \u2028"),  # type: ignore[call-arg]  # any fields
    ],
)
async def test_the_text_of_a_question_is_its_prefix_or_its_first_text(
    event: InputRequiredEvent, text: str | None
) -> None:
    class Asks(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> InputRequiredEvent:
            return event

        @step
        async def take(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent()

    async with serve_workflow(Asks(timeout=None)) as client:
        handler = await wait_waiting(client, await start(client, "it"))
    assert [question["text"] for question in handler["questions"]] == [text]


async def test_a_plain_answer_is_described_with_its_usual_field(client: httpx.AsyncClient) -> None:
    class Plain(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> InputRequiredEvent:
            return InputRequiredEvent()

        @step
        async def take(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent()

    async with serve_workflow(Plain()) as client:
        events: list[dict[str, Any]] = (await client.get("/workflows/it/events")).json()["events"]
    [schema] = [event for event in events if event["title"] == "HumanResponseEvent"]
    assert list(schema["properties"]) == ["response"]
    assert schema["additionalProperties"] is True
