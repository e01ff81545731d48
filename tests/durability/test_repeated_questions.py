"""A question that a step writes again, when it runs again, is the same question."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from workflows import Workflow

from tests.durability.asking import (
    Batched,
    Careful,
    Confirmed,
    Declared,
    Flaky,
    Flooding,
    Hasty,
    Impatient,
    Insistent,
    Overtaken,
    Remembered,
    Returned,
    Reworded,
    Series,
    Sides,
    Signalled,
    Twofold,
    Workers,
    Written,
)
from tests.durability.restarts import Restarts, restarting
from tests.support.backends import opened_store
from tests.support.calls import result_of, send, start
from tests.support.inspection import is_evicted
from tests.support.problems import problem_of
from tests.support.streams import read_frames, read_until
from tests.support.waiting import until

# What is done to a run whenever it waits.
WAYS = ["nothing", "evicted", "restarted", "evicted and restarted"]

# Each run: its workflow, the prompts of its questions, and to whom it says which.
RUNS: dict[str, tuple[Callable[[], Workflow], list[str], list[str]]] = {
    "written": (Written, ["How old are you?", "Which food?"], ["", ""]),
    "flooding": (Flooding, ["Well?"], [""]),
    "declared": (Declared, ["Well?"], [""]),
    "returned": (Returned, ["Well?"], [""]),
    "series": (Series, ["Well?", "Well?"], ["a", "b"]),
    "careful": (Careful, ["Well?", "Well?"], ["a", "b"]),
    "flaky before": (lambda: Flaky(after=False), ["Well?"], [""]),
    "flaky after": (lambda: Flaky(after=True), ["Well?"], [""]),
}


@asynccontextmanager
async def serving(workflow: Workflow, way: str) -> AsyncIterator[Restarts]:
    """Serve a workflow whose runs leave memory as soon as they wait, or not at all."""
    options = {"idle_timeout": 0.0 if "evicted" in way else 3600.0}
    async with (
        opened_store("memory:") as store,
        restarting(store, options=options, it=workflow) as restarts,
    ):
        yield restarts


async def list_open(client: httpx.AsyncClient) -> list[int]:
    """Return the sequences of the open questions of the handler `h`."""
    questions = (await client.get("/handlers/h")).json()["questions"]
    return [question["sequence"] for question in questions]


async def wait_open(restarts: Restarts, way: str, count: int = 1) -> list[int]:
    """Return the open questions once the run waits, after what is done to it in this way."""

    async def waits() -> bool:
        handler = (await restarts.client.get("/handlers/h")).json()
        return bool(handler["phase"] == "waiting" and len(handler["questions"]) == count)

    await until(waits)
    before = await list_open(restarts.client)
    if "evicted" in way:
        await until(lambda: is_evicted(restarts.server, "h"))
    if "restarted" in way:
        await restarts.restart()
    assert await list_open(restarts.client) == before
    return before


async def wait_begun_again(restarts: Restarts, question: int) -> None:
    """Return when a question is not open any more."""

    async def is_closed() -> bool:
        return question not in await list_open(restarts.client)

    await until(is_closed)


async def wait_asked(restarts: Restarts) -> int:
    """Return the one question once it is open, while the step that asks it goes on."""

    async def is_open() -> bool:
        return len(await list_open(restarts.client)) == 1

    await until(is_open)
    [question] = await list_open(restarts.client)
    return question


async def reply(client: httpx.AsyncClient, text: str, *, to: str = "", **body: int) -> None:
    """Answer a question of the handler `h`."""
    sent = await send(client, "h", "Reply", {"text": text, "to": to}, **body)
    assert sent.status_code == 200, sent.text


async def list_prompts(client: httpx.AsyncClient) -> list[str]:
    """Return the prompts of all questions in the stream of the handler `h`, which has ended."""
    return [f.value["prompt"] for f in await read_frames(client, "h") if f.type == "Ask"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RUNS)
async def test_each_question_is_asked_once_and_takes_one_answer(name: str, way: str) -> None:
    make, prompts, recipients = RUNS[name]
    async with serving(make(), way) as restarts:
        await start(restarts.client, "it", "h")
        answered: list[int] = []
        for number, to in enumerate(recipients):
            [question] = await wait_open(restarts, way)
            client = restarts.client
            for earlier in answered:
                late = await send(client, "h", "Reply", {"text": "late"}, reply_to=earlier)
                assert problem_of(late) == (409, "question_not_open")
            await reply(client, f"answer {number}", to=to, reply_to=question)
            answered.append(question)
        result = await result_of(restarts.client, "h")
        assert result == [f"answer {number}" for number in range(len(prompts))]
        assert await list_prompts(restarts.client) == prompts


@pytest.mark.parametrize("name", RUNS)
async def test_questions_are_closed_by_answers_that_name_none(name: str) -> None:
    make, prompts, recipients = RUNS[name]
    async with serving(make(), "nothing") as restarts:
        await start(restarts.client, "it", "h")
        for number, to in enumerate(recipients):
            await wait_open(restarts, "nothing")
            await reply(restarts.client, f"answer {number}", to=to)
        assert len(await result_of(restarts.client, "h")) == len(prompts)


@pytest.mark.parametrize("way", WAYS)
async def test_a_question_that_is_worded_anew_is_the_same_question(way: str) -> None:
    async with serving(Reworded(), way) as restarts:
        await start(restarts.client, "it", "h")
        for text in ("one", "two"):
            [question] = await wait_open(restarts, way)
            await reply(restarts.client, text, reply_to=question)
        assert await result_of(restarts.client, "h") == ["one", "two"]
        assert len(await list_prompts(restarts.client)) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Sides, Workers])
async def test_equal_questions_of_two_steps_at_once_are_two(
    kind: Callable[[], Workflow], way: str
) -> None:
    async with serving(kind(), way) as restarts:
        await start(restarts.client, "it", "h")
        questions = await wait_open(restarts, way, 2)
        await reply(restarts.client, "yes", to="a", reply_to=questions[0])
        assert await wait_open(restarts, way) == questions[1:]
        again = await send(restarts.client, "h", "Reply", {"text": "x"}, reply_to=questions[0])
        assert problem_of(again) == (409, "question_not_open")
        await reply(restarts.client, "no", to="b", reply_to=questions[1])
        assert await result_of(restarts.client, "h") == ["a: yes", "b: no"]
        assert await list_prompts(restarts.client) == ["Well?", "Well?"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_step_that_is_tried_again_and_waits_anew_asks_anew(way: str) -> None:
    async with serving(Insistent(), way) as restarts:
        await start(restarts.client, "it", "h")
        [first] = await wait_open(restarts, way)
        await reply(restarts.client, "many", to="0", reply_to=first)

        async def is_asked_anew() -> bool:
            return await list_open(restarts.client) not in ([first], [])

        await until(is_asked_anew)
        [second] = await wait_open(restarts, way)
        await reply(restarts.client, "7", to="1", reply_to=second)
        assert await result_of(restarts.client, "h") == [7]
        assert await list_prompts(restarts.client) == ["A number?", "A number?"]


@pytest.mark.parametrize("way", ["fails", "is cut off"])
async def test_a_question_that_was_answered_while_its_step_went_on_stays_answered(
    way: str,
) -> None:
    workflow = Overtaken()
    async with serving(workflow, "nothing") as restarts:
        await start(restarts.client, "it", "h")

        first = await wait_asked(restarts)
        await reply(restarts.client, "fine", reply_to=first)
        if way == "is cut off":
            workflow = Overtaken()
            await restarts.restart(it=workflow)
        workflow.go_on.set()
        [second] = await wait_open(restarts, "nothing")
        assert second > first
        await reply(restarts.client, "tea", to="food", reply_to=second)
        assert await result_of(restarts.client, "h") == ["tea"]
        assert await list_prompts(restarts.client) == ["Well?", "Which food?"]


async def test_what_a_step_that_runs_again_asks_otherwise_takes_the_place_of_its_question() -> None:
    """The step was cut off before it was answered: nobody waits for the first one any more."""
    async with serving(Reworded(holds=True), "nothing") as restarts:
        await start(restarts.client, "it", "h")

        question = await wait_asked(restarts)
        await restarts.restart(it=Reworded(begin=5))
        [instead] = await wait_open(restarts, "nothing")
        assert instead > question
        await reply(restarts.client, "one", reply_to=instead)
        [second] = await wait_open(restarts, "nothing")
        await reply(restarts.client, "two", reply_to=second)
        assert await result_of(restarts.client, "h") == ["one", "two"]


async def test_a_step_that_waits_for_an_answer_has_an_open_question() -> None:
    """Another step has taken the first answer, before this one waited for any."""
    workflow = Hasty()
    async with serving(workflow, "nothing") as restarts:
        await start(restarts.client, "it", "h")
        first = await wait_asked(restarts)
        await reply(restarts.client, "early", reply_to=first)
        workflow.go_on.set()
        [second] = await wait_open(restarts, "nothing")
        assert second > first
        await reply(restarts.client, "late", reply_to=second)
        assert await result_of(restarts.client, "h") == ["late"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_wait_for_something_else_does_not_close_a_question(way: str) -> None:
    async with serving(Signalled(), way) as restarts:
        await start(restarts.client, "it", "h")
        [question] = await wait_open(restarts, way)
        await send(restarts.client, "h", "Signal", {})
        assert await wait_open(restarts, way) == [question]
        await reply(restarts.client, "yes", reply_to=question)
        assert await result_of(restarts.client, "h") == ["signal", "yes"]
        assert await list_prompts(restarts.client) == ["Well?"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("workflow", [Batched, Remembered])
async def test_of_two_questions_before_their_waits_each_takes_its_own_answer(
    way: str, workflow: type[Workflow]
) -> None:
    async with serving(workflow(), way) as restarts:
        await start(restarts.client, "it", "h")
        [first] = await wait_open(restarts, way)
        early = await send(restarts.client, "h", "Fork", {"text": "x"}, reply_to=first + 1)
        assert problem_of(early) == (409, "question_not_open")
        await reply(restarts.client, "so", reply_to=first)
        await wait_begun_again(restarts, first)
        [second] = await wait_open(restarts, way)
        assert second == first + 1
        late = await send(restarts.client, "h", "Reply", {"text": "x"}, reply_to=first)
        assert problem_of(late) == (409, "question_not_open")
        await send(restarts.client, "h", "Fork", {"text": "left"}, reply_to=second)
        assert await result_of(restarts.client, "h") == ["so", "left"]
        assert await list_prompts(restarts.client) == ["Why?", "Which?"]


@pytest.mark.parametrize("way", WAYS)
async def test_of_two_questions_with_one_wait_the_second_is_closed_with_the_step(way: str) -> None:
    workflow = Twofold()
    async with serving(workflow, way) as restarts:
        await start(restarts.client, "it", "h")
        [first] = await wait_open(restarts, way)
        await reply(restarts.client, "yes", reply_to=first)
        workflow.go_on.set()
        assert await wait_open(restarts, way, 0) == []
        late = await send(restarts.client, "h", "Reply", {"text": "x"}, reply_to=first + 1)
        assert problem_of(late) == (409, "question_not_open")
        await reply(restarts.client, "end")
        assert await result_of(restarts.client, "h") == ["yes", "end"]
        assert await list_prompts(restarts.client) == ["It will be sent.", "Send it?"]


@pytest.mark.parametrize("way", ["nothing", "restarted"])
async def test_a_question_whose_wait_has_timed_out_is_closed(way: str) -> None:
    async with serving(Impatient(), way) as restarts:
        await start(restarts.client, "it", "h")

        async def is_asked_otherwise() -> bool:
            frames = await read_until(restarts.client, "h", lambda frame: frame.type == "Ask")
            return await list_open(restarts.client) not in ([frames[-1].sequence], [])

        await until(is_asked_otherwise)
        [question] = await wait_open(restarts, way)
        await reply(restarts.client, "yes", to="slow", reply_to=question)
        assert await result_of(restarts.client, "h") == ["yes"]
        assert await list_prompts(restarts.client) == ["Quick?", "Well?"]


async def test_an_answered_question_stays_so_though_its_step_then_waits_for_something_else() -> (
    None
):
    workflow = Signalled(holds=True)
    async with serving(workflow, "nothing") as restarts:
        await start(restarts.client, "it", "h")
        await reply(restarts.client, "yes", reply_to=await wait_asked(restarts))
        workflow.go_on.set()
        await wait_open(restarts, "nothing", 0)
        await send(restarts.client, "h", "Signal", {})
        assert await result_of(restarts.client, "h") == ["yes", "signal"]
        assert await list_prompts(restarts.client) == ["Well?"]


@pytest.mark.parametrize("names_question", [True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_a_wait_for_the_answer_closes_its_question_whatever_the_class(
    way: str, *, names_question: bool
) -> None:
    async with serving(Confirmed(), way) as restarts:
        await start(restarts.client, "it", "h")
        [first] = await wait_open(restarts, way)
        body = {"reply_to": first} if names_question else {}
        assert (await send(restarts.client, "h", "Signal", {}, **body)).status_code == 200

        async def is_asked_again() -> bool:
            return await list_open(restarts.client) not in ([first], [])

        await until(is_asked_again)
        [second] = await wait_open(restarts, way)
        await send(restarts.client, "h", "Signal", {}, reply_to=second)
        assert await result_of(restarts.client, "h") == ["confirmed"]
