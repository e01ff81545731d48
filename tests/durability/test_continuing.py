"""A handler that runs again goes on from the state of its last run, on every store."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.durability.faulty import Fault
from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import wait_ended
from tests.support.streams import read_frames
from tests.support.workflows import Conversation
from workflow_server.stores.base import Store

Json = dict[str, Any]


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


async def talk(client: httpx.AsyncClient) -> Json:
    """Run the one handler, and return it as it ended."""
    handler: Json = (await client.post("/workflows/it/run", json={"handler_id": "h"})).json()
    return handler


def turn_of(handler: Json) -> int:
    """Return which turn of the conversation a run was."""
    turn: int = handler["result"]["value"]["result"]
    return turn


async def test_a_run_starts_from_the_state_of_the_last_one_after_a_crash_too(store: Store) -> None:
    async with restarting(store, it=Conversation()) as restarts:
        turns = [turn_of(await talk(restarts.client)) for _ in range(2)]
        await restarts.restart()
        turns.append(turn_of(await talk(restarts.client)))
        assert turns == [1, 2, 3]


async def test_of_many_turns_the_store_keeps_the_state_of_the_last_one_alone(store: Store) -> None:
    async with restarting(store, it=Conversation()) as restarts:
        runs = [(await talk(restarts.client))["run_id"] for _ in range(4)]
        assert await list_states(store, runs) == runs[3:]


async def list_states(store: Store, runs: list[str]) -> list[str]:
    """Return which of these runs have a state."""
    return [run_id for run_id in runs if await store.get_state(run_id) is not None]


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
async def test_no_crash_while_a_run_supersedes_another_leaves_the_handler_without_a_state(
    store: Store, fault: Fault
) -> None:
    async with restarting(store, it=Conversation()) as restarts:
        runs = [(await talk(restarts.client))["run_id"]]
        restarts.store.break_down("commit", fault)
        refused = await restarts.client.post("/workflows/it/run", json={"handler_id": "h"})
        assert refused.status_code == 503
        await restarts.restart()
        cut_off = await wait_ended(restarts.client, "h")
        runs += [cut_off["run_id"]] if cut_off["run_id"] not in runs else []
        assert await list_states(store, runs) == runs[-1:]
        assert turn_of(await talk(restarts.client)) == turn_of(cut_off) + 1
        assert turn_of(cut_off) == len(runs)


async def test_result_and_events_of_an_older_run_stay_readable(store: Store) -> None:
    async with restarting(store, it=Conversation()) as restarts:
        await talk(restarts.client)
        first = (await restarts.client.get("/handlers/h")).json()
        frames = await read_frames(restarts.client, "h")
        for _ in range(2):
            await talk(restarts.client)
        await restarts.restart()
        run = {"run_id": first["run_id"]}
        assert (await restarts.client.get("/handlers/h", params=run)).json() == first
        assert await read_frames(restarts.client, "h", **run) == frames
        assert frames[-1].value == {"result": 1}
