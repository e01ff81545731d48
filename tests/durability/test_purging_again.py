"""A purge that names a run touches no other one of its handler."""

from typing import Any

import httpx
import pytest

from tests.durability.restarts import restarting
from tests.support.calls import start, wait_ended
from tests.support.problems import problem_of
from tests.support.streams import read_frames
from tests.support.workflows import Echo, Sleeper
from workflow_server.app.handlers.registry import HandlerRegistry
from workflow_server.schemas.records import EndedHandler
from workflow_server.stores.base import Store


async def begin_again(client: httpx.AsyncClient, workflow: str) -> str:
    """Start the handler again, and return its new run once that has ended or is at work."""
    await start(client, workflow, "h")
    if workflow == "echo":
        await wait_ended(client, "h")
    return str((await client.get("/handlers/h")).json()["run_id"])


@pytest.mark.parametrize("names_run", [True, False])
@pytest.mark.parametrize("again", ["echo", "sleeper"])
async def test_a_purge_that_a_new_run_overtakes_leaves_that_as_it_is(
    store: Store, again: str, names_run: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with restarting(store, echo=Echo(), sleeper=Sleeper(timeout=None)) as restarts:
        client = restarts.client
        begun: list[str] = []
        purge_ended = HandlerRegistry.purge_ended

        async def overtaken(registry: HandlerRegistry, ended: EndedHandler) -> bool:
            # At the moment at which the run has been cancelled and is not yet purged.
            begun.append(await begin_again(client, again))
            return await purge_ended(registry, ended)

        await start(client, again, "h")
        first: dict[str, Any] = (await client.get("/handlers/h")).json()
        monkeypatch.setattr(HandlerRegistry, "purge_ended", overtaken)
        named = {"run_id": first["run_id"]} if names_run else {}
        response = await client.post("/handlers/h/cancel", params={"purge": True, **named})
        assert problem_of(response) == (409, "handler_running")
        handler = (await client.get("/handlers/h")).json()
        assert [handler["run_id"]] == begun
        assert handler["status"] == ("completed" if again == "echo" else "running")
        if again == "echo":
            assert [frame.type for frame in await read_frames(client, "h")] == ["StopEvent"]
