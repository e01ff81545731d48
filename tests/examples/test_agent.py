from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from examples.agent import Answer, Permission, PermissionRequired, Request, ToolCall, agent
from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import send, start, wait_ended
from tests.support.inspection import is_evicted
from tests.support.waiting import until
from workflow_server.stores.base import Store

pytestmark = pytest.mark.anyio

REFUND = Request(message="Please refund my order 7.")


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (
            "I am not happy.",
            Answer(message="Which order is it? Please tell me its number.", tools=[]),
        ),
        (
            "Please refund my order 9.",
            Answer(message="Order 9: There is no such order.", tools=["look_up"]),
        ),
    ],
)
async def test_the_agent_answers_by_itself_what_costs_nothing(message: str, answer: Answer) -> None:
    assert await agent.run(start_event=Request(message=message)) == answer


async def test_the_agent_looks_the_order_up_and_asks_before_it_pays() -> None:
    handler = agent.run(start_event=REFUND)
    events = handler.stream_events()

    assert [await anext(events) for _ in range(3)] == [
        ToolCall(tool="look_up", order=7),
        ToolCall(tool="refund", order=7),
        PermissionRequired(question="Refund 49.90 € for order 7?"),
    ]
    await handler.cancel_run()


@pytest.mark.parametrize(
    ("granted", "message"),
    [
        (True, "Order 7: 49.90 € were paid back."),
        (False, "Order 7: 49.90 € were not paid back."),
    ],
)
async def test_the_person_decides(granted: bool, message: str) -> None:
    handler = agent.run(start_event=REFUND)
    async for event in handler.stream_events():
        if isinstance(event, PermissionRequired):
            await handler.send_event(Permission(granted=granted))

    assert await handler == Answer(message=message, tools=["look_up", "refund"])


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind, which outlives its servers."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


@pytest.mark.parametrize("how", ["crash", "stop", "evict"])
async def test_the_agent_waits_for_the_person_whatever_becomes_of_the_server(
    store: Store, how: str
) -> None:
    options: dict[str, Any] = {"idle_timeout": 0.0} if how == "evict" else {}
    async with restarting(store, options=options, agent=agent) as restarts:
        await start(restarts.client, "agent", "h", message=REFUND.message)

        async def is_waiting() -> bool:
            return bool((await restarts.client.get("/handlers/h")).json()["questions"])

        await until(is_waiting)
        if how == "evict":
            await until(lambda: is_evicted(restarts.server, "h"))
        else:
            await getattr(restarts, how)()
            await restarts.start()
        await send(restarts.client, "h", "Permission", {"granted": True})
        ended = await wait_ended(restarts.client, "h")

    assert ended["result"]["value"] == {
        "message": "Order 7: 49.90 € were paid back.",
        "tools": ["look_up", "refund"],
    }
