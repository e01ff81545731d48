"""The harness: runs of every kind, a server that is killed again and again, and the verdict."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import httpx

from tests.durability.crash.client import Client
from tests.durability.crash.conduct import KINDS, Conduct
from tests.durability.crash.copies import Copies
from tests.durability.crash.ending import Cancel, Purge, Storm
from tests.durability.crash.process import ServerProcess
from tests.durability.crash.witness import Effect, Spans

CONCURRENT = 40
UPTIME, LONGEST_UPTIME = 1.0, 5.0  # seconds between two crashes, on average and at most
IDLE_TIMEOUT = 0.4
FEWEST_CRASHES = 2  # however long a start takes
AUDITED = 5  # ended runs that are read again after each start, and at once at the end
SETTLING = 60.0  # seconds that runs have to end once nobody kills the server any more


@dataclass
class Verdict:
    """What the harness did, and what did not hold."""

    crashes: int = 0
    terminations: int = 0
    runs: int = 0
    events: int = 0
    startups: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        slowest = max(self.startups, default=0)
        return (
            f"{self.crashes} crashes and {self.terminations} terminations survived,"
            f" {self.runs} runs and {self.events} events checked,"
            f" slowest start {slowest:.1f} s, {len(self.violations)} violations"
        )


class Served(Protocol):
    """A server, or several under one address; `effects` is what their steps did."""

    url: str
    effects: Path
    log: Path

    async def start(self) -> None:
        """Start it."""

    async def wait_healthy(self) -> None:
        """Return when it is healthy."""

    async def end(self, how: signal.Signals) -> int | None:
        """Send a signal and return the exit status when it is gone; None for none."""


class Harness:
    """Keeps runs going and kills their server; `served` is in the place of one."""

    audited: ClassVar[int] = AUDITED

    def __init__(
        self,
        store: str,
        folder: Path,
        *,
        seed: int,
        concurrent: int = CONCURRENT,
        uptime: float = UPTIME,
        longest_pause: float = 1.0,
        storm: int = 0,
        copies: int = 0,
        retention: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        served: Served | None = None,
    ) -> None:
        self._storm = storm
        self._most_copies = copies
        self.copies = Copies(store, folder)
        self._concurrent = concurrent
        self._uptime = uptime
        self._longest_pause = longest_pause
        self._chance = random.Random(seed)
        self._server = served or ServerProcess(
            store, folder, idle_timeout=IDLE_TIMEOUT, retention=retention
        )
        self._client = Client(self._server.url, transport=transport)
        self._conducted: list[Conduct] = []
        self._patience: set[asyncio.Timeout] = set()
        self._end: float | None = None  # of all patience, on the event loop's clock
        self._verdict = Verdict()
        self._downs: Spans = []

    async def run(self, seconds: float) -> Verdict:
        """Kill for so many seconds, let all runs end, and judge."""
        try:
            await self._server.start()
            await self._server.wait_healthy()
            deadline = time.monotonic() + seconds
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._disturb_and_settle(deadline))
                tasks.create_task(self._copy(seconds))
                for index in range(self._concurrent):
                    tasks.create_task(self._conduct(index, deadline))
            ended = self._ended()
            for first in range(0, len(ended), AUDITED):
                conducts = ended[first : first + AUDITED]
                await asyncio.gather(*(conduct.audit() for conduct in conducts))
                for conduct in conducts:
                    self._check(conduct)
            await self._check_listing()
            await self._server.end(signal.SIGKILL)
            await self.copies.check(self._conducted)
            self._judge()
        finally:
            await self._server.end(signal.SIGKILL)
            await self.copies.remove()
            await self._client.close()
        return self._verdict

    async def _conduct(self, slot: int, deadline: float) -> None:
        """Conduct one run after the other."""
        chance = random.Random(self._chance.random())
        count = 0
        while self._goes_on(deadline):
            conduct = self._make_conduct(slot, count, chance)
            conduct.longest_pause = self._longest_pause
            self._conducted.append(conduct)
            try:
                async with asyncio.timeout_at(self._end) as patience:
                    self._patience.add(patience)
                    try:
                        await conduct.carry_out()
                    finally:
                        self._patience.discard(patience)
            except TimeoutError:
                conduct.witness.blame(f"it never ended: {conduct.witness.parsed('Question')}")
            count += 1

    def _goes_on(self, deadline: float) -> bool:
        """Return whether runs are to begin."""
        return time.monotonic() < deadline

    def _make_conduct(self, slot: int, count: int, chance: random.Random) -> Conduct:
        """Return the next run of a slot; the first one of all may be a storm."""
        if slot == count == 0 and self._storm:
            storm = Storm(self._client, f"storm-{count}", chance)
            storm.size = self._storm
            return storm
        kinds: tuple[type[Conduct], ...] = (*KINDS, Cancel, Purge)
        kind = chance.choice(kinds)
        return kind(self._client, f"{kind.__name__.lower()}-{slot}-{count}", chance)

    async def _disturb_and_settle(self, deadline: float) -> None:
        """Disturb, and give the runs that go on so many seconds once the server is back.

        Where the machine is busy, that may be long after the deadline.
        """
        await self._disturb(deadline)
        self._end = asyncio.get_running_loop().time() + SETTLING
        for patience in self._patience:
            patience.reschedule(self._end)

    async def _disturb(self, deadline: float) -> None:
        """Kill the server, and start it again."""
        while self._goes_on(deadline) or self._verdict.crashes < FEWEST_CRASHES:
            await asyncio.sleep(min(self._chance.expovariate(1 / self._uptime), LONGEST_UPTIME))
            gentle = self._chance.random() < 0.15
            down_from = time.monotonic()
            await self._server.end(signal.SIGTERM if gentle else signal.SIGKILL)
            self._verdict.terminations += gentle
            self._verdict.crashes += not gentle
            await self._server.start()
            if self._chance.random() < 0.1:
                self._downs.append((down_from, time.monotonic()))
                continue  # killed again while it starts
            began = time.monotonic()
            await self._server.wait_healthy()
            self._downs.append((down_from, time.monotonic()))
            self._verdict.startups.append(time.monotonic() - began)
            await self._audit_some()
        await self._server.wait_healthy()

    async def _copy(self, seconds: float) -> None:
        """Copy the store now and then, whatever its server does."""
        for _ in range(self._most_copies):
            await asyncio.sleep(seconds / (self._most_copies + 1))
            await self.copies.make()

    def _check(self, conduct: Conduct) -> None:
        """Hold a run that has ended to its results."""
        conduct.check()

    async def _audit_some(self) -> None:
        ended = self._ended()
        for conduct in self._chance.sample(ended, min(self.audited, len(ended))):
            await conduct.audit()

    def _ended(self) -> list[Conduct]:
        return [conduct for conduct in self._conducted if conduct.witness.ended is not None]

    async def _check_listing(self) -> None:
        """Check that no acknowledged run is missing."""
        listed: set[str] = set()
        cursor = ""
        while True:
            params = {"cursor": cursor} if cursor else {}
            page = (await self._client.get("/handlers", **params)).json()
            listed.update(handler["handler_id"] for handler in page["handlers"])
            cursor = page["next_cursor"]
            if not cursor:
                break
        for conduct in self._conducted:
            if conduct.acknowledged and conduct.name not in listed:
                conduct.witness.blame("it is acknowledged and not listed")
            if conduct.is_gone and conduct.name in listed:
                conduct.witness.blame("it was purged and is listed")

    def _read_effects(self) -> Iterator[Effect]:
        """Yield what steps did."""
        for line in self._server.effects.read_text().splitlines():
            at, run, work, process = line.split()
            yield Effect(float(at), run, work, int(process))

    def _judge(self) -> None:
        effects: dict[str, list[tuple[float, str]]] = {}
        for effect in self._read_effects():
            effects.setdefault(effect.run, []).append((effect.at, effect.work))
        for conduct in self._conducted:
            conduct.check_effects(effects.get(conduct.name, []), self._downs)
            if conduct.witness.violations:
                self._verdict.violations += [*conduct.witness.violations, conduct.witness.story()]
            self._verdict.events += len(conduct.witness.events)
        self._verdict.violations += self.copies.violations
        self._verdict.runs = len(self._conducted)
