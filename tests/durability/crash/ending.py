"""Runs that their clients end before they would, and what must hold once the server has said so."""

import random
import time
from typing import Any

from tests.durability.crash.client import Client, Unreachable
from tests.durability.crash.conduct import Ask, Conduct
from tests.durability.crash.witness import Effects, Spans


class Cancel(Conduct):
    """A walk that is cancelled; from the answer on it stays so, and nothing of it is done."""

    workflow, sizes = "walker", range(20, 200)

    def __init__(self, client: Client, name: str, chance: random.Random) -> None:
        super().__init__(client, name, chance)
        self._cancelled_at: float | None = None

    async def drive(self) -> None:
        """Cancel the run, until the server says that it is, or that there is nothing to cancel."""
        await self.pause()
        while True:
            try:
                response = await self._client.post(f"/handlers/{self.name}/cancel", {})
            except Unreachable:
                continue
            if response.status_code == 200:
                self._cancelled_at = time.monotonic()
            elif response.json().get("code") != "handler_ended":
                self.witness.blame(f"cancelling was answered: {response.text}")
            await self._ended()
            return

    def check(self) -> None:
        """Check that it was cancelled, where the server said so, and that its stream says so."""
        if self._cancelled_at is not None and self.witness.ended_as != "cancelled":
            self.witness.blame(f"it was cancelled, and is {self.witness.ended}")
        if self.witness.ended_as != "cancelled":
            super().check()
        elif not self.witness.has_terminal_event:
            self.witness.blame("it was cancelled, and its stream does not say so")

    def check_effects(self, effects: Effects, downs: Spans) -> None:
        """Check that no step began after the answer."""
        super().check_effects(effects, downs)
        for at, work in effects:
            if self._cancelled_at is not None and at > self._cancelled_at:
                self.witness.blame(f"work {work} was done after it was cancelled")


class Purge(Ask):
    """A run that waits or works, and is purged; from the answer on there is nothing of it."""

    async def carry_out(self) -> None:
        """Begin the run, and purge it."""
        await self.begin()
        await self.pause()
        # From here on it may be gone, whatever is answered.
        self.acknowledged = False
        await self._purge()
        self.is_gone = True
        self.witness.ended = {"status": "purged", "error": None}
        self.over.set()

    async def _purge(self) -> None:
        """Purge the handler until the server says that it is gone."""
        is_known = True
        while True:
            try:
                path = f"/handlers/{self.name}/cancel?purge=true"
                response = await self._client.post(path, {})
            except Unreachable:
                is_known = False
                continue
            if response.status_code == 200:
                return
            if response.json().get("code") == "handler_not_found":
                if is_known:
                    self.witness.blame("it is acknowledged and missing")
                return
            self.witness.blame(f"purging was answered {response.status_code}: {response.text}")
            return

    async def audit(self) -> None:
        """Ask for the handler, its events and its steps: there are none."""
        for path in ("/handlers/{}", "/events/{}", "/handlers/{}/steps"):
            response = await self._client.get(path.format(self.name))
            if response.status_code != 404:
                self.witness.blame(f"it was purged, and {path} answers {response.status_code}")

    def check(self) -> None:
        """Do nothing: there is no end to be checked."""


class Storm(Conduct):
    """A hundred thousand events in one run, of steps that are cut off and begin again."""

    workflow, sizes = "stormer", range(100_000, 100_001)

    def check_result(self, result: Any) -> None:
        """Check that in each part every attempt counted from its first to its last event."""
        self.expect(result, self.size)
        expected = 0
        for sequence, gust in self.witness.parsed("Gust"):
            index, first = gust["index"], gust["first"]
            if index not in (expected, first) or first > expected:
                self.witness.blame(f"event {sequence} is number {index}, not {expected}")
            expected = index + 1
        if expected != self.size:
            self.witness.blame(f"the last event is {expected - 1} of {self.size}")
