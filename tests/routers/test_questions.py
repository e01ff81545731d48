"""Answers that name their question: a question takes one, however often somebody clicks."""

import asyncio

import httpx
import pytest

from tests.support.calls import (
    answer,
    get_status,
    send,
    start_asker,
    wait_ended,
    wait_question,
)
from tests.support.problems import problem_of
from tests.support.streams import take

# A step that returns its question, and a step that waits inside; the prompts of their questions.
STYLES = [("asker", "1", "2"), ("waiter", "first", "second")]
styles = pytest.mark.parametrize(("workflow", "first", "second"), STYLES)


async def start_two_questions(client: httpx.AsyncClient, workflow: str) -> str:
    """Start a run that asks two questions, and return its handler's id."""
    return await start_asker(client, workflow, questions=2)


@styles
async def test_two_questions_are_answered_one_after_the_other(
    client: httpx.AsyncClient, workflow: str, first: str, second: str
) -> None:
    handler_id = await start_two_questions(client, workflow)
    for prompt in (first, second):
        question = await wait_question(client, handler_id, prompt)
        response = await answer(client, handler_id, prompt, reply_to=question)
        assert response.json() == {"status": "sent"}
    assert (await wait_ended(client, handler_id))["status"] == "completed"


@styles
async def test_of_a_double_click_one_answer_is_taken(
    client: httpx.AsyncClient, workflow: str, first: str, second: str
) -> None:
    handler_id = await start_two_questions(client, workflow)
    question = await wait_question(client, handler_id, first)
    clicks = await asyncio.gather(
        *(answer(client, handler_id, "yes", reply_to=question) for _ in range(5))
    )
    assert sorted(click.status_code for click in clicks) == [200, 409, 409, 409, 409]


@styles
async def test_a_double_click_does_not_answer_the_next_question(
    client: httpx.AsyncClient, workflow: str, first: str, second: str
) -> None:
    handler_id = await start_two_questions(client, workflow)
    question = await wait_question(client, handler_id, first)
    await answer(client, handler_id, "yes", reply_to=question)
    next_question = await wait_question(client, handler_id, second)
    late = await answer(client, handler_id, "yes", reply_to=question)
    assert problem_of(late) == (409, "question_not_open")
    assert await get_status(client, handler_id) == "running"
    response = await answer(client, handler_id, "no", reply_to=next_question)
    assert response.json() == {"status": "sent"}
    assert (await wait_ended(client, handler_id))["result"]["value"]["result"][1] == "no"


@pytest.mark.parametrize("reply_to", [-1, 0, 10_000, 10**30])
async def test_a_sequence_that_is_no_question_is_a_conflict(
    client: httpx.AsyncClient, reply_to: int
) -> None:
    handler_id = await start_asker(client)
    response = await answer(client, handler_id, "yes", reply_to=reply_to)
    assert problem_of(response) == (409, "question_not_open")


@pytest.mark.parametrize("reply_to", ["now", 1.5, [1]])
async def test_a_reply_to_that_is_no_sequence_is_malformed(
    client: httpx.AsyncClient, reply_to: object
) -> None:
    handler_id = await start_asker(client)
    response = await answer(client, handler_id, "yes", reply_to=reply_to)
    assert problem_of(response) == (400, "malformed_request")


@styles
async def test_an_answer_without_reply_to_is_delivered_as_it_is(
    client: httpx.AsyncClient, workflow: str, first: str, second: str
) -> None:
    handler_id = await start_two_questions(client, workflow)
    await answer(client, handler_id, "yes")
    await wait_question(client, handler_id, second)
    await answer(client, handler_id, "no")
    assert (await wait_ended(client, handler_id))["status"] == "completed"


@styles
async def test_a_question_that_was_answered_without_reply_to_is_closed(
    client: httpx.AsyncClient, workflow: str, first: str, second: str
) -> None:
    handler_id = await start_two_questions(client, workflow)
    question = await wait_question(client, handler_id, first)
    await answer(client, handler_id, "yes")
    await wait_question(client, handler_id, second)
    response = await answer(client, handler_id, "yes", reply_to=question)
    assert problem_of(response) == (409, "question_not_open")


async def test_an_answer_of_a_class_that_the_waiter_does_not_take_leaves_the_question_open(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client, "waiter")
    question = await wait_question(client, handler_id, "first")
    wrong = await send(client, handler_id, "StartEvent", {}, reply_to=question)
    assert problem_of(wrong) == (400, "invalid_event")
    right = await answer(client, handler_id, "yes", reply_to=question)
    assert right.json() == {"status": "sent"}


async def test_a_question_carries_its_sequence_as_the_id_of_its_frame(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client)
    [question] = await take(client, handler_id, 1)
    response = await answer(client, handler_id, "yes", reply_to=question.sequence)
    assert response.json() == {"status": "sent"}


async def test_a_question_of_an_ended_run_takes_no_answer(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    question = await wait_question(client, handler_id, "1")
    await answer(client, handler_id, "yes", reply_to=question)
    await wait_ended(client, handler_id)
    response = await answer(client, handler_id, "yes", reply_to=question)
    assert problem_of(response) == (409, "handler_ended")
