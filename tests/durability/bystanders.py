"""Clients that ask a server, all the time, for everything that a store is asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.support.calls import result_of, send, start, wait_ended
from tests.support.streams import Frame, read_frames, read_until
from tests.support.waiting import until
from workflow_server.schemas.records import Batch, Phase, RunRecord, Status
from workflow_server.stores.base import Store

PAUSE = 0.02  # seconds between two requests of a kind
PATIENCE = 0.5  # seconds that a client waits for an answer
START = {"start_event": {"name": "n", "size": 1}}
LARGE_NAME = "n" * 1_000  # so that its start event is a payload
NONSENSE = {"event": {"type": "Nonsense", "value": {}}}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
EXPIRED = RunRecord(
    run_id="expired",
    handler_id="expired",
    handler_created_at=LONG_AGO,
    workflow_name="talker",
    started_at=LONG_AGO,
    updated_at=LONG_AGO,
    completed_at=LONG_AGO,
    status=Status.COMPLETED,
    phase=Phase.ENDED,
    result=b"{}",
)


@dataclass(frozen=True)
class Request:
    """A request, and the status of its answer while the store works."""

    method: str
    path: str
    status: int
    body: dict[str, Any] | None = None

    async def ask(self, client: httpx.AsyncClient) -> int:
        """Return the status of the answer, when all of it is there."""
        return (await client.request(self.method, self.path, json=self.body)).status_code


@dataclass
class Bystanders:
    """Two handlers that nobody conducts: one has run twice, the other one waits for an answer."""

    client: httpx.AsyncClient
    run_id: str
    frames: list[Frame]

    @classmethod
    async def prepare(cls, client: httpx.AsyncClient) -> "Bystanders":
        """Run the one, and start the other."""
        await start(client, "talker", "talked", name="n", size=1)
        run_id = (await wait_ended(client, "talked"))["run_id"]
        frames = await read_frames(client, "talked")
        await start(client, "talker", "talked", name="n", size=1)
        await wait_ended(client, "talked")
        await start(client, "waiter", "waiting", name=LARGE_NAME, size=1)
        await read_until(
            client,
            "waiting",
            lambda frame: frame.type == "WorkflowIdleEvent",
            include_internal=True,
        )
        return cls(client, run_id, frames)

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests; that of nonsense brings the waiting run back from the store, unharmed."""
        events = f"/events/talked?run_id={self.run_id}&after_sequence=-1"
        return (
            Request("GET", "/health", 200),
            Request("GET", "/handlers", 200),
            Request("GET", "/handlers/unknown", 404),
            Request("GET", "/handlers/talked/runs", 200),
            Request("GET", f"/handlers/talked?run_id={self.run_id}", 200),
            Request("GET", events, 200),
            Request("GET", f"/handlers/talked/steps?run_id={self.run_id}", 200),
            Request("POST", "/events/waiting", 400, NONSENSE),
            Request("POST", "/workflows/talker/run-nowait", 200, START),
        )

    async def may_start(self) -> bool:
        """Return whether a run could be started, and so was committed."""
        return await self.requests[-1].ask(self.client) == 200

    @asynccontextmanager
    async def asking(self, violations: list[str]) -> AsyncIterator[None]:
        """Let all requests be made, again and again, during the block."""
        url = self.client.base_url
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            tasks = [
                asyncio.create_task(self._repeat(request, client, violations))
                for request in self.requests
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat(
        self, request: Request, client: httpx.AsyncClient, violations: list[str]
    ) -> None:
        while True:
            try:
                status = await request.ask(client)
            except httpx.TransportError:
                pass  # late, or cut off, as a stream is whose store fails
            else:
                if status not in (request.status, 503):
                    violations.append(f"{request.method} {request.path} was answered {status}")
            await asyncio.sleep(PAUSE)

    async def check(self, real: Store) -> list[str]:
        """Return what does not hold of the answers of a server whose store works again."""
        statuses = [await request.ask(self.client) for request in self.requests]
        violations = [
            f"{request.method} {request.path} is answered {status}"
            for request, status in zip(self.requests, statuses, strict=True)
            if status != request.status
        ]
        if await read_frames(self.client, "talked", run_id=self.run_id) != self.frames:
            violations.append("events of an earlier run have changed")
        await send(self.client, "waiting", "Answer", {"text": "yes", "to": "0"})
        if await result_of(self.client, "waiting") != ["yes"]:
            violations.append("the run that waited took no answer")
        await until(lambda: is_removed(real))
        return violations


async def expire(real: Store) -> None:
    """Put a handler into the store that retention is to remove."""
    await real.commit(Batch(runs={EXPIRED.run_id: EXPIRED}))


async def is_removed(real: Store) -> bool:
    """Return whether retention has removed that handler."""
    return await real.get_handler(EXPIRED.key) is None
