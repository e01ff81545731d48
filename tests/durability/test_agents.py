"""An agent of llama-index-core asks a person and remembers, whatever becomes of the server."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from workflows import Context, Workflow
from workflows.events import HumanResponseEvent, InputRequiredEvent

from tests.durability.restarts import Restarts, restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import send, start, wait_begun, wait_ended
from tests.support.inspection import is_evicted
from tests.support.waiting import until
from tests.support.workflows import Sleeper
from workflow_server.stores.base import Store

# Of llama-index-core, whose agents are pydantic models and ask a context whether it runs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MESSAGE = {"role": "user", "content": "Please refund my order 7."}


async def refund(ctx: Context[Any], order: int) -> str:
    """Refund an order, if a person agrees."""
    reply = await ctx.wait_for_event(
        HumanResponseEvent,
        waiter_id=f"refund {order}",
        waiter_event=InputRequiredEvent(prefix=f"Refund order {order}?"),  # type: ignore[call-arg]
    )
    return f"They said {reply.response}."


def speak(messages: Sequence[ChatMessage], **_: Any) -> ChatMessage:
    """Call the tool, and then tell what it returned and how often the user has spoken."""
    if messages[-1].role == "tool":
        turns = sum(message.role == "user" for message in messages)
        return ChatMessage(role="assistant", content=f"{turns}: {messages[-1].content}")
    call = ToolCallBlock(tool_call_id="1", tool_name="refund", tool_kwargs={"order": 7})
    return ChatMessage(role="assistant", blocks=[call])


def make_agent() -> Workflow:
    """Return an agent whose model is a script."""
    model = MockFunctionCallingLLM(response_generator=speak)
    agent: Workflow = FunctionAgent(tools=[refund], llm=model, timeout=None)  # type: ignore[call-arg]  # it hands them on
    return agent


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind, which outlives its servers."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


async def has_question(client: httpx.AsyncClient) -> bool:
    """Return whether the agent has asked."""
    return bool((await client.get("/handlers/h")).json()["questions"])


async def answer_question(client: httpx.AsyncClient) -> str:
    """Answer the agent's question, and return what it says then."""

    await until(lambda: has_question(client))
    await send(client, "h", "HumanResponseEvent", {"response": "yes"})
    ended = await wait_ended(client, "h")
    assert ended["error"] is None
    text: str = ended["result"]["value"]["result"]["response"]["blocks"][0]["text"]
    return text


async def begin_again(restarts: Restarts, how: str) -> None:
    """Let the run leave memory: by itself, or with the server."""
    if how == "evict":
        await until(lambda: is_evicted(restarts.server, "h"))
    else:
        await getattr(restarts, how)()
        await restarts.start()


@pytest.mark.parametrize("how", ["crash", "stop", "evict"])
async def test_it_asks_and_remembers(store: Store, how: str) -> None:
    options = {"idle_timeout": 0.0 if how == "evict" else 3600.0}
    async with restarting(store, options=options, agent=make_agent()) as restarts:
        for turn in (1, 2):
            await start(restarts.client, "agent", "h", user_msg=MESSAGE)
            await until(lambda: has_question(restarts.client))
            await begin_again(restarts, how)
            assert await answer_question(restarts.client) == f"{turn}: They said yes."


@pytest.mark.parametrize("how", ["crash", "stop"])
async def test_it_begins_after_it_was_queued(store: Store, how: str) -> None:
    workflows = {"sleeper": Sleeper(timeout=None), "agent": make_agent()}
    async with restarting(store, options={"max_runs": 1}, **workflows) as restarts:
        await start(restarts.client, "sleeper", "first", seconds=3600)
        await wait_begun(restarts.client, "first")
        await start(restarts.client, "agent", "h", user_msg=MESSAGE)
        await begin_again(restarts, how)
        await restarts.client.post("/handlers/first/cancel")
        assert await answer_question(restarts.client) == "1: They said yes."
