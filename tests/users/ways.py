"""Ways that a run can take from its question to its end."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support import command
from tests.support.inspection import is_in_memory
from tests.support.live import serving
from tests.support.waiting import DEADLINE, until
from tests.users.cases import FAILED, Case
from tests.users.files import agent, rag, values
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.backends import open_store

MODULES = (values, rag, agent)
WORKFLOWS = {
    "state": values.state,
    "event": values.event,
    "waiter": values.waiter,
    "result": values.result,
    "rag": rag.rag,
    "images": rag.images,
    "agent": agent.agent,
    "remembers": agent.remembers,
}
STAYS = 600.0  # seconds that a waiting run stays in memory
REPOSITORY = Path(__file__).parents[2]

Cases = Mapping[str, Case]
Json = dict[str, Any]


class Runs:
    """All cases as runs of one server, which are started and answered together."""

    def __init__(self, cases: Cases, client: httpx.AsyncClient) -> None:
        self.client = client
        self._cases = {f"h{number}": named for number, named in enumerate(cases.items())}

    async def start(self) -> None:
        """Start a run of each case, and return when each asks."""
        await self._post_all(
            lambda handler_id, case: (
                f"/workflows/{case.workflow}/run-nowait",
                {"start_event": case.start, "handler_id": handler_id},
            )
        )
        await self._until_all(lambda handler: handler["phase"] == "waiting")

    async def answer(self) -> dict[str, Any]:
        """Answer each question; return the results by the cases' names, once all have ended."""
        await self._post_all(
            lambda handler_id, case: (f"/events/{handler_id}", {"event": case.answer})
        )
        handlers = await self._until_all(lambda handler: handler["phase"] == "ended")
        return {
            name: _result(handlers[handler_id], case)
            for handler_id, (name, case) in self._cases.items()
        }

    async def until_each(self, holds: Callable[[str], bool]) -> None:
        """Return when something holds of each handler."""
        for handler_id in self._cases:
            await until(lambda handler_id=handler_id: holds(handler_id))  # type: ignore[misc]  # bound now

    async def _post_all(self, make: Callable[[str, Case], tuple[str, Json]]) -> None:
        """Make a request of each case, and send them side by side."""
        requests = [make(handler_id, case) for handler_id, (_, case) in self._cases.items()]
        for response in await asyncio.gather(
            *(self.client.post(path, json=body) for path, body in requests)
        ):
            assert response.status_code == 200, response.text

    async def _until_all(self, holds: Callable[[Json], bool]) -> dict[str, Json]:
        return {handler_id: await self._until(handler_id, holds) for handler_id in self._cases}

    async def _until(self, handler_id: str, holds: Callable[[Json], bool]) -> Json:
        handler: Json = {}

        async def look() -> bool:
            handler.update((await self.client.get(f"/handlers/{handler_id}")).json())
            return holds(handler) or handler["phase"] == "ended"

        await until(look)
        return handler


def _result(handler: Json, case: Case) -> Any:
    if handler["status"] == "failed" and "cannot be returned" in handler["error"]:
        return FAILED
    if handler["status"] != "completed":
        return handler["error"]
    return case.read(handler["result"]["value"].get("result"))


def make_client(url: str) -> httpx.AsyncClient:
    """Return a client that has a few requests under way at a time."""
    limits = httpx.Limits(max_connections=16)
    return httpx.AsyncClient(
        base_url=url, timeout=httpx.Timeout(DEADLINE, pool=None), limits=limits
    )


@asynccontextmanager
async def _served_here(
    url: str, cases: Cases, idle_timeout: float
) -> AsyncIterator[tuple[Runs, WorkflowServer]]:
    server = WorkflowServer(workflow_store=open_store(url), idle_timeout=idle_timeout)
    for name, workflow in WORKFLOWS.items():
        server.add_workflow(name, workflow)
    async with (
        serving(server) as base,
        make_client(base) as client,
    ):
        yield Runs(cases, client), server


async def at_once(url: str, cases: Cases) -> dict[str, Any]:
    """Answer while the run is in memory."""
    async with _served_here(url, cases, STAYS) as (runs, _):
        await runs.start()
        return await runs.answer()


async def after_release(url: str, cases: Cases) -> dict[str, Any]:
    """Answer when the run has left memory."""
    async with _served_here(url, cases, 0.0) as (runs, server):
        await runs.start()
        await runs.until_each(lambda handler_id: not is_in_memory(server, handler_id))
        return await runs.answer()


async def continued(url: str, cases: Cases) -> dict[str, Any]:
    """Run each handler twice: the second run starts from the state that the first one left."""
    async with _served_here(url, cases, STAYS) as (runs, _):
        await runs.start()
        await runs.answer()
        await runs.start()
        return await runs.answer()


async def after_kill(url: str, cases: Cases) -> dict[str, Any]:
    """Answer when another process serves, and the first was killed."""
    return await _restarted(url, cases, signal.SIGKILL)


async def after_sigterm(url: str, cases: Cases) -> dict[str, Any]:
    """Answer when another process serves, and the first was told to end."""
    return await _restarted(url, cases, signal.SIGTERM)


async def _restarted(url: str, cases: Cases, how: signal.Signals) -> dict[str, Any]:
    async with _served_elsewhere(url, cases) as (runs, process):
        await runs.start()
        process.send_signal(how)
        await asyncio.to_thread(process.wait)
    async with _served_elsewhere(url, cases) as (runs, _):
        return await runs.answer()


@asynccontextmanager
async def _served_elsewhere(url: str, cases: Cases) -> AsyncIterator[tuple[Runs, Any]]:
    served = command.serving(
        REPOSITORY,
        *(module.__name__ for module in MODULES),
        "--store",
        url,
        "--idle-timeout",
        str(STAYS),
    )
    server = await asyncio.to_thread(served.__enter__)
    try:
        async with make_client(server.url) as client:
            yield Runs(cases, client), server.process
    finally:
        await asyncio.to_thread(served.__exit__, None, None, None)


WAYS: dict[str, Callable[[str, Cases], Awaitable[dict[str, Any]]]] = {
    "at once": at_once,
    "after release": after_release,
    "after kill -9": after_kill,
    "after SIGTERM": after_sigterm,
    "continued": continued,
}
