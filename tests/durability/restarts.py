"""A server that can be cut down and started again over what it had committed."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from workflows import Workflow

from tests.durability.faulty import Fault, FaultyStore
from tests.support.live import make_client, serving
from workflow_server.app.clocks import StoreClock
from workflow_server.app.lifecycle import Lifecycle
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.base import Store


@dataclass
class OffsetClock:
    """A wall clock and a monotonic one that go as others do; the former can be set."""

    offset: timedelta = timedelta()
    passed: float = 0.0

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def monotonic(self) -> float:
        """Return the seconds that have passed since some moment."""
        return time.monotonic() + self.passed

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.offset += timedelta(seconds=seconds)
        self.passed += seconds

    def set_by(self, seconds: float) -> None:
        """Set the wall clock, back where that is negative; no time passes."""
        self.offset += timedelta(seconds=seconds)

    def start(self) -> StoreClock:
        """Return a store's clock that goes by these."""
        clock = StoreClock(wall=self, monotonic=self.monotonic)
        clock.start(None)
        return clock

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let all servers of the test go by this clock."""
        defaults = Lifecycle.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "clock", self)
        monkeypatch.setitem(defaults, "monotonic", self.monotonic)


@dataclass
class Restarts:
    """One server after the other over one store; `client` is of the one that runs."""

    real: Store
    workflows: Mapping[str, Workflow]
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client: httpx.AsyncClient
        self.server: WorkflowServer
        self._open = AsyncExitStack()
        self.store = FaultyStore(self.real)

    async def start(self, **workflows: Workflow) -> None:
        """Start a server; the workflows take the place of those before."""
        self.workflows = workflows or self.workflows
        self.store = FaultyStore(self.real)
        self.server = WorkflowServer(
            workflow_store=self.store, persistence_backoff=(), **self.options
        )
        for name, workflow in self.workflows.items():
            self.server.add_workflow(name, workflow)
        url = await self._open.enter_async_context(serving(self.server))
        self.client = await self._open.enter_async_context(make_client(url))

    async def crash(self) -> None:
        """End the server; nothing that it has not committed until now reaches the store."""
        self.store.break_down("everything", Fault.FAIL_BEFORE)
        await self._open.aclose()

    async def stop(self) -> None:
        """End the server as SIGTERM does."""
        await self._open.aclose()

    async def restart(self, **workflows: Workflow) -> None:
        """Crash, and start again."""
        await self.crash()
        await self.start(**workflows)


@asynccontextmanager
async def restarting(
    real: Store, *, options: dict[str, Any] | None = None, **workflows: Workflow
) -> AsyncIterator[Restarts]:
    """Yield a server that was started over a store which outlives it."""
    restarts = Restarts(real, workflows, options or {})
    await restarts.start()
    try:
        yield restarts
    finally:
        await restarts.stop()
