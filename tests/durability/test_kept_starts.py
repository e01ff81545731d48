"""Start events of queued runs: they come back as they were, whatever their JSON says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr, field_validator, model_serializer
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.durability.restarts import Restarts, restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import result_of, start, wait_begun
from tests.support.workflows import Sleeper
from workflow_server.stores.base import Store


class Begin(StartEvent):
    """Its JSON is masked, is not what its validator takes, and leaves something out."""

    token: SecretStr
    text: str
    limit: float = 0.0
    hidden: int = Field(default=1, exclude=True)

    @field_validator("text")
    @classmethod
    def shout(cls, text: str) -> str:
        return f"{text}!"


class Tells(Workflow):
    @step
    async def tell(self, ev: Begin) -> StopEvent:
        token = ev.token.get_secret_value()
        return StopEvent(result=[token, ev.text, str(ev.limit), ev.hidden, ev.get("more")])


class Talk(StartEvent):
    """Its serializer reads what a client may leave out."""

    @model_serializer()
    def serialize(self) -> dict[str, Any]:
        return {"user_msg": self.user_msg, "chat_history": self.chat_history}


class Talks(Workflow):
    @step
    async def talk(self, ev: Talk) -> StopEvent:
        return StopEvent(result=[ev.get("user_msg"), ev.get("chat_history")])


class Says(Workflow):
    @step
    async def say(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=repr(ev.get("limit")))


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind, which outlives its servers."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


@asynccontextmanager
async def busy(store: Store, workflow: Workflow) -> AsyncIterator[Restarts]:
    """Yield a server whose one slot is taken, so that a run of the workflow is queued."""
    workflows = {"sleeper": Sleeper(timeout=None), "it": workflow}
    async with restarting(store, options={"max_runs": 1}, **workflows) as restarts:
        await start(restarts.client, "sleeper", "first", seconds=3600)
        await wait_begun(restarts.client, "first")
        yield restarts


@pytest.mark.parametrize(
    ("workflow", "fields", "result"),
    [
        (
            Tells,
            {"token": "t", "text": "tea", "limit": "nan", "hidden": 2, "more": {"a": [1]}},
            ["t", "tea!", "nan", 2, {"a": [1]}],
        ),
        (Talks, {"user_msg": "hi"}, ["hi", None]),
    ],
)
async def test_a_queued_run_begins_after_a_crash_from_the_event_that_it_was_given(
    store: Store, workflow: type[Workflow], fields: dict[str, Any], result: list[Any]
) -> None:
    async with busy(store, workflow()) as restarts:
        await start(restarts.client, "it", "second", **fields)
        await restarts.restart()
        await restarts.client.post("/handlers/first/cancel")
        assert await result_of(restarts.client, "second") == result


async def test_a_number_that_is_too_large_for_a_float_is_the_same_after_a_crash(
    store: Store,
) -> None:
    async with busy(store, Says()) as restarts:
        body = '{"handler_id": "second", "start_event": {"limit": 1e999}}'
        await restarts.client.post("/workflows/it/run-nowait", content=body)
        await restarts.restart()
        await restarts.client.post("/handlers/first/cancel")
        assert await result_of(restarts.client, "second") == "inf"
