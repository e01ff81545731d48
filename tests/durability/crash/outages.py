"""A Postgres that is restarted, crashes and is away for a while, under a server with its load."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx

from tests.durability.crash.conduct import Conduct
from tests.durability.crash.harness import Harness
from tests.support.postgres_instance import PostgresInstance
from tests.support.waiting import DEADLINE, until

BACKOFF = 3.5  # seconds for which the server tries to commit, as its settings are by default
SHORT = 1.5  # seconds without a database: less than that
LONG = 9.0  # and so long that it gives up twice: at first what it was committing, then all others
RECOVERY = 60.0  # seconds that the server has until it is healthy again, on a busy machine
LOOK = 0.1  # seconds between two looks at the health


class Outage(StrEnum):
    """What befalls the database."""

    RESTART = "restarts"
    CRASH = "crashes"
    SHORT_ABSENCE = "short absences"
    LONG_ABSENCE = "long absences"
    READ_ONLY = "times read-only"


@dataclass
class Losses:
    """What befell the database, and what came of it; `faults` are sentences."""

    outages: list[Outage] = field(default_factory=list)
    long_absences: list[tuple[float, float]] = field(default_factory=list)
    given_up: int = 0
    written_off: int = 0
    unhealthy: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{self.outages.count(kind)} {kind}" for kind in Outage)
        return (
            f"{counts}; {self.given_up} commits given up, {self.written_off} runs written off,"
            f" said to be unhealthy {self.unhealthy} times; {len(self.faults)} faults"
        )


class Outages(Harness):
    """Lets the database have one outage after the other; the server lives through all of them."""

    def __init__(
        self, database: PostgresInstance, folder: Path, *, schema: str, **options: Any
    ) -> None:
        super().__init__(f"{database.url}?schema={schema}", folder, **options)
        self._database = database
        self.losses = Losses()

    async def _disturb(self, deadline: float) -> None:
        async with httpx.AsyncClient(base_url=self._server.url, timeout=DEADLINE) as client:
            while time.monotonic() < deadline or len(self.losses.outages) < len(Outage):
                kinds = list(Outage)
                self._chance.shuffle(kinds)
                for kind in kinds:
                    await asyncio.sleep(self._chance.random() * 2 * self._uptime)
                    await self._befall(kind, client)
                    await self._audit_some()

    def _judge(self) -> None:
        super()._judge()
        self.losses.given_up = self._server.log.read_text().count("store failed")

    async def _befall(self, outage: Outage, client: httpx.AsyncClient) -> None:
        began = time.time()
        match outage:
            case Outage.RESTART:
                await self._database.restart("fast")
            case Outage.CRASH:
                await self._database.restart("immediate")
            case Outage.SHORT_ABSENCE:
                await self._be_away(SHORT, client)
            case Outage.LONG_ABSENCE:
                await self._be_away(LONG, client)
            case Outage.READ_ONLY:
                await self._be_read_only(LONG, client)
        await until(lambda: _is_healthy(client), within=RECOVERY)
        await until(lambda: _commits(client), within=RECOVERY)
        self.losses.outages.append(outage)
        if outage in (Outage.LONG_ABSENCE, Outage.READ_ONLY):
            self.losses.long_absences.append((began + BACKOFF, time.time()))

    async def _be_away(self, seconds: float, client: httpx.AsyncClient) -> None:
        """Be away, while the server must not say that it is healthy."""
        await self._database.stop("fast")
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            if await _is_healthy(client):
                self.losses.faults.append("the server says that it is healthy without a database")
            self.losses.unhealthy += 1
            await asyncio.sleep(LOOK)
        await self._database.start()

    async def _be_read_only(self, seconds: float, client: httpx.AsyncClient) -> None:
        """Be read-only, in which time the server must acknowledge nothing, and say so."""
        await self._database.set_read_only(True)
        over = time.monotonic() + seconds
        await asyncio.sleep(LOOK)  # in which a transaction that had begun may still be committed
        while time.monotonic() < over:
            with suppress(httpx.TimeoutException):
                if await _commits(client):
                    self.losses.faults.append("a run is acknowledged by a read-only database")
        if await _is_healthy(client):
            self.losses.faults.append("the server says that it is healthy and can write nothing")
        self.losses.unhealthy += 1
        await self._database.set_read_only(False)

    def _check(self, conduct: Conduct) -> None:
        """Check the end of a run, which may be written off while the database is long away."""
        witness = conduct.witness
        if not witness.is_written_off:
            super()._check(conduct)
            return
        assert witness.ended is not None
        self.losses.written_off += 1
        at = datetime.fromisoformat(witness.ended["completed_at"]).timestamp()
        if not any(began <= at <= over for began, over in self.losses.long_absences):
            witness.blame(f"it was written off at {at}, for no reason")
        if not witness.has_terminal_event:
            witness.blame("it was written off, and its stream does not say so")


async def _commits(client: httpx.AsyncClient) -> bool:
    """Return whether a run can be started: what was tried before has been committed then, too."""
    body = {"start_event": {"name": "n", "size": 1}}
    return (await client.post("/workflows/talker/run-nowait", json=body)).status_code == 200


async def _is_healthy(client: httpx.AsyncClient) -> bool:
    with suppress(httpx.RemoteProtocolError):  # of a connection that was kept for long enough
        return (await client.get("/health")).status_code == 200
    return False
