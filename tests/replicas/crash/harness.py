"""The harness: runs of every kind, three servers that are disturbed at random, and the verdict."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from tests.durability.crash.conduct import Conduct, Retry, Walk
from tests.durability.crash.harness import Harness, Verdict
from tests.durability.crash.witness import Effect
from tests.replicas.crash.audit import Audit
from tests.replicas.crash.fleet import LOOK, Fleet, Place
from tests.replicas.crash.poison import POISONED
from tests.support.postgres import connect
from tests.support.waiting import PAUSE

BEYOND = 1.4  # of the time to be stale, for which a server is away
GIVEN_UP = 400.0  # seconds in which a run that ends its process is given up: probations double
AT_WORK = 2  # runs that a server has before a move, if it comes to that
PATIENCE = 20.0  # seconds
TERMINATIONS = 3  # at once, or nearly


class Move(StrEnum):
    """What befalls the servers."""

    KILL = "kill -9"
    STOP = "SIGSTOP beyond stale"
    REPLACE = "SIGTERM with replacement"
    HOLD = "partition that holds what is sent"
    CUT = "partition that cuts connections"
    TERMINATE = "pg_terminate_backend"
    FREEZE = "database frozen for twice the stale time"
    POISON = "poison run"


class Spell(NamedTuple):
    """The time in which a process was stopped, on the machine's clock."""

    stopped: float
    revived: float
    process: int

    def has_cut_off(self, effect: Effect) -> bool:
        """Return whether a step of the process did this after it."""
        return effect.process == self.process and effect.at > self.revived


class March(Walk):
    """A long walk: a server that is lost has some of them at work."""

    sizes = range(50, 200)

    async def _look_at_state(self, run_id: str, sequence: int) -> None:
        """Do nothing: there are very many, and those of other runs are looked at."""


class Poison(Conduct):
    """A run that ends its process, again and again, until it is given up."""

    workflow, sizes = "poison", range(1)

    def check(self) -> None:
        """Check that it was given up."""
        if self.witness.ended_as != "failed":
            self.witness.blame(f"it ended its process, and is {self.witness.ended}")

    async def audit(self) -> None:
        """Do nothing: its witness has read it to the end."""


class ReplicasHarness(Harness):
    """Keeps runs going under one address while its servers are disturbed."""

    audited = 1

    def __init__(
        self,
        store: str,
        folder: Path,
        served: Fleet,
        audit: Audit,
        *,
        stale_after: float,
        moves: tuple[Move, ...] = tuple(Move),
        **options: Any,
    ) -> None:
        super().__init__(store, folder, served=served, **options)
        self.moves: Counter[Move] = Counter()
        self.faults: list[str] = []
        self._fleet = served
        self._moves = folder / "moves"
        self._audit = audit
        self._stale = stale_after
        self._kinds = moves
        self._spells: list[Spell] = []

    def _make_conduct(self, slot: int, count: int, chance: random.Random) -> Conduct:
        """Return the next run of a slot: of any kind, or, in each second one, a march."""
        if slot % 2:
            return March(self._client, f"march-{slot}-{count}", chance)
        conduct = super()._make_conduct(slot, count, chance)
        if isinstance(conduct, Retry):
            conduct.apart = self._stale  # by as much as a heartbeat may take
        return conduct

    async def _disturb(self, deadline: float) -> None:
        """Make all moves in a random order, again and again, and each of them once at least."""
        while self._goes_on(deadline):
            kinds = list(self._kinds)
            self._chance.shuffle(kinds)
            for kind in kinds:
                if not super()._goes_on(deadline) and self.moves[kind]:
                    continue
                await asyncio.sleep(self._chance.random() * 2 * self._uptime)
                began = time.monotonic()
                self._log(f"{kind} …")
                await self._make(kind)
                await self._fleet.wait_healthy()
                self._log(f"… {time.monotonic() - began:.1f} s")
                self._downs.append((began, time.monotonic()))
                self.moves[kind] += 1
                await self._audit_some()

    def _goes_on(self, deadline: float) -> bool:
        return super()._goes_on(deadline) or len(self.moves) < len(self._kinds)

    def _log(self, line: str) -> None:
        """Note a move, with the time by which servers log."""
        with self._moves.open("a") as moves:
            moves.write(f"{datetime.now(UTC).isoformat()} {line}\n")

    async def _make(self, move: Move) -> None:
        place = await self._find_place()
        self._log(f"  of {place}, process {place.server.pid}")
        match move:
            case Move.KILL:
                await place.server.end(signal.SIGKILL)
                await self._audit.note_loss(move, place.name)
                await self._wait(self._chance.choice((0.0, BEYOND)))
                await self._fleet.begin(place)
                self._verdict.crashes += 1
            case Move.STOP:
                stopped = time.monotonic()
                place.server.send(signal.SIGSTOP)
                await self._audit.note_loss(move, place.name)
                await self._wait(BEYOND)
                self._spells.append(Spell(stopped, time.monotonic(), place.server.pid))
                place.server.send(signal.SIGCONT)
            case Move.REPLACE:
                await self._replace(place)
            case Move.HOLD:
                place.relay.open.clear()
                await self._audit.note_loss(move, place.name)
                await self._wait(BEYOND)
                place.relay.open.set()
            case Move.CUT:
                await place.relay.cut()
                await self._audit.note_loss(move, place.name)
                await self._wait(BEYOND)
                place.relay.mend()
            case Move.TERMINATE:
                for _ in range(TERMINATIONS):
                    await terminate(self._chance.choice(([place], self._fleet.used)))
                    await asyncio.sleep(self._chance.random())
            case Move.FREEZE:
                await self._freeze()
            case Move.POISON:
                await self._poison()

    async def _find_place(self) -> Place:
        """Return the place of the server with most runs at work; any, where none gets enough."""
        used = {place.name: place for place in self._fleet.used}
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (found := await self._audit.find_busiest(AT_WORK)) not in used:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK)
                return used[found]
        return self._chance.choice(self._fleet.used)

    async def _replace(self, place: Place) -> None:
        """Start a server in the free place, and tell another one to end."""
        free = next(place for place in self._fleet.places if not place.is_used)
        await self._fleet.begin(free)
        await self._fleet.wait_healthy()
        status = await place.server.end(signal.SIGTERM)
        place.is_used = False
        if status != 0:
            self.faults.append(f"{place} ended with {status}: {place.last_words}")
        self._verdict.terminations += 1

    async def _freeze(self) -> None:
        """Hold all that goes to the database; nobody may be dead to the others because of that."""
        before = await self._fleet.list_members()
        for place in self._fleet.used:
            place.relay.open.clear()
        await self._wait(2)
        for place in self._fleet.used:
            place.relay.open.set()
        await self._fleet.wait_healthy()
        await self._wait(BEYOND)  # in which one that is wrong removes the others
        after = await self._fleet.list_members()
        if before != after:
            self.faults.append(f"after an outage of the database {before} were {after}")

    async def _poison(self) -> None:
        """Let a run end its process until it is given up, and start those that it has ended."""
        name = f"poison-{self.moves[Move.POISON]}"
        poison = Poison(self._client, name, self._chance)
        self._conducted.append(poison)
        conducting = asyncio.create_task(poison.carry_out())
        try:
            async with asyncio.timeout(GIVEN_UP):
                while not conducting.done():
                    for place in self._fleet.used:
                        if place.server.status is not None:
                            await self._raise(place)
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            conducting.cancel()
            poison.witness.blame(f"it was not given up in {GIVEN_UP} s")
        await asyncio.gather(conducting, return_exceptions=True)

    async def _raise(self, place: Place) -> None:
        """Start a server again that a run has ended."""
        if place.server.status != POISONED:
            self.faults.append(f"{place} ended with {place.server.status}: {place.last_words}")
        await self._audit.note_loss(Move.POISON, place.name)
        await self._fleet.begin(place)
        self._verdict.crashes += 1

    async def _wait(self, times: float) -> None:
        await asyncio.sleep(times * self._stale)

    def _read_effects(self) -> Iterator[Effect]:
        """Yield what steps did; a step that was about to when its process was stopped did it then.

        It may be the first one after that, and no other: a process does one thing at a time.
        """
        spells = sorted(self._spells)
        for effect in sorted(super()._read_effects()):
            spell = next((each for each in spells if each.has_cut_off(effect)), None)
            if spell is not None:
                spells.remove(spell)
                effect = Effect(spell.stopped, effect.run, effect.work, effect.process)
            yield effect

    async def run(self, seconds: float) -> Verdict:
        """Disturb for so many seconds, let all runs end, and judge."""
        verdict = await super().run(seconds)
        self.faults += await self._audit.list_unended()
        self.faults += await self._audit.list_zombies()
        verdict.violations += self.faults
        (self._moves.parent / "violations").write_text("\n".join(verdict.violations))
        return verdict


async def terminate(places: list[Place]) -> None:
    """Let the database close all connections of some servers."""
    async with connect() as database:
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = ANY($1::text[])",
            [place.name for place in places],
        )
