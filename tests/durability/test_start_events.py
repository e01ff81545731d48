"""A run that has not begun starts from what was sent, after a restart too."""

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr, field_validator
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import result_of, start
from tests.users.files.equality import describe


class Order(StartEvent):
    token: SecretStr = SecretStr("none")
    day: date | None = None
    note: str = Field(default="", exclude=True)
    count: int = 0

    @field_validator("count")
    @classmethod
    def double(cls, count: int) -> int:
        return 2 * count


class Busy(Workflow):
    """Holds the one slot until it is let go."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.let_go = asyncio.Event()

    @step
    async def hold(self, ev: StartEvent) -> StopEvent:
        await self.let_go.wait()
        return StopEvent()


class Shows(Workflow):
    """Says what it was started from."""

    @step
    async def show(self, ev: Order) -> StopEvent:
        return StopEvent(result=describe(ev))


FIELDS: dict[str, Any] = {
    "token": "open sesame",
    "day": "2026-01-02",
    "note": "n",
    "count": 3,
    "free": [1],
}


@pytest.mark.parametrize("kind", FRESH_URLS)
@pytest.mark.parametrize("fields", [FIELDS, {}, {"count": 1}], ids=["all", "none", "one"])
async def test_a_queued_run_starts_from_the_same_after_a_restart(
    kind: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    busy, shows = Busy(), Shows(timeout=None)
    async with (
        FRESH_URLS[kind](tmp_path) as url,
        opened_store(url) as store,
        restarting(store, options={"max_runs": 1}, busy=busy, shows=shows) as restarts,
    ):
        await start(restarts.client, "busy")
        handler_id = await start(restarts.client, "shows", **fields)
        busy.let_go.set()
        await restarts.restart()
        assert await result_of(restarts.client, handler_id) == describe(Order(**fields))
