"""A wait whose id holds what UTF-8 or a database cannot: its run goes on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.durability.restarts import Restarts, restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import answer, result_of, start
from tests.support.inspection import key_of
from tests.support.streams import read_until
from tests.support.waiting import until
from tests.support.workflows import Answer, Question
from workflow_server.stores.base import Store

NULL = "null \0 in it"
SURROGATES = "lone \ud800 and \udfff\ud800"


class Named(Workflow):
    """Waits for an answer under an id, and asks with the id as its prompt."""

    def __init__(self, waiter_id: str) -> None:
        super().__init__(timeout=None)
        self.waiter_id = waiter_id

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(
            Answer, waiter_event=Question(prompt=self.waiter_id), waiter_id=self.waiter_id
        )
        return StopEvent(result=reply.text)


@pytest.fixture(params=FRESH_URLS)
async def restarts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Restarts]:
    """Yield a server over a store of each kind, which releases runs as soon as they wait."""
    async with (
        FRESH_URLS[request.param](tmp_path) as url,
        opened_store(url) as store,
        restarting(
            store,
            options={"idle_timeout": 0.0},
            null=Named(NULL),
            surrogates=Named(SURROGATES),
        ) as restarts,
    ):
        yield restarts


async def ask(restarts: Restarts, workflow: str) -> tuple[str, int]:
    """Start a run; return its handler's id and its question's sequence, once it waits."""
    handler_id = await start(restarts.client, workflow)
    frames = await read_until(restarts.client, handler_id, lambda frame: frame.type == "Question")
    await until(lambda: is_idle(restarts.real, handler_id))
    return handler_id, frames[-1].sequence


async def is_idle(store: Store, handler_id: str) -> bool:
    """Return whether it is committed that the run waits."""
    record = await store.get_handler(key_of(handler_id))
    return record is not None and record.idle is not None


@pytest.mark.parametrize("workflow", ["null", "surrogates"])
async def test_its_question_is_open_and_is_answered(restarts: Restarts, workflow: str) -> None:
    handler_id, question = await ask(restarts, workflow)
    listed = (await restarts.client.get("/handlers?waiting=true")).json()["handlers"]
    assert [handler["handler_id"] for handler in listed] == [handler_id]
    answered = await answer(restarts.client, handler_id, "yes", reply_to=question)
    assert answered.status_code == 200, answered.text
    assert await result_of(restarts.client, handler_id) == "yes"


@pytest.mark.parametrize("workflow", ["null", "surrogates"])
async def test_it_survives_a_crash(restarts: Restarts, workflow: str) -> None:
    handler_id, question = await ask(restarts, workflow)
    await restarts.restart()
    answered = await answer(restarts.client, handler_id, "yes", reply_to=question)
    assert answered.status_code == 200, answered.text
    assert await result_of(restarts.client, handler_id) == "yes"
