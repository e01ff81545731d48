"""Handlers that run again when retention may be about to remove them."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from tests.durability.crash.client import RETRY_PAUSE, Client, Json, Unreachable
from tests.durability.crash.conduct import Conduct
from tests.durability.crash.harness import Harness

RETENTION = 1.0  # seconds


class Return(Conduct):
    """A handler that is run again at about the age at which retention removes it.

    A run that was acknowledged is there until it is that old, and so is what its handler counts.
    """

    workflow, sizes = "talker", range(4, 9)

    def __init__(self, client: Client, name: str, chance: random.Random) -> None:
        super().__init__(client, name, chance)
        self.kept = 0
        self.removed = 0

    async def carry_out(self) -> None:
        """Run the handler again and again, each time when it may be about to be removed."""
        turns, expires = 0, 0.0
        for _ in range(self.size):
            run_id, begun = await self._take_turn()
            if run_id is None:
                turns, expires = 0, 0.0  # Nobody knows what has run.
                continue
            accepted = time.time()
            turn = await self._watch(run_id, begun + RETENTION)
            if turn is not None and turns:
                self.kept += turn > 1
                self.removed += turn == 1
                if turn not in (1, turns + 1) or (turn == 1 and accepted < expires):
                    self.witness.blame(f"turn {turn} follows turn {turns}")
            turns, expires = turn or 0, begun + RETENTION
            await self.pause()
        self.witness.ended = {"status": "left", "error": None}

    async def _take_turn(self) -> tuple[str | None, float]:
        """Start a run; return its id, or None where that is not known, and a time before it."""
        begun = time.time()
        body = {"handler_id": self.name, "start_event": {"name": self.name, "size": 0}}
        try:
            response = await self._client.post("/workflows/talker/run-nowait", body)
        except Unreachable:
            await self._await_end()
            return None, begun
        if response.status_code != 200:
            self.witness.blame(f"its start was refused: {response.text}")
            return None, begun
        return str(response.json()["run_id"]), begun

    async def _await_end(self) -> None:
        """Return when no run of the handler goes on."""
        while True:
            if (await self._look()).get("status") != "running":
                return
            await asyncio.sleep(RETRY_PAUSE)

    async def _look(self) -> Json:
        """Return the handler, or a problem."""
        handler: Json = (await self._client.get(f"/handlers/{self.name}")).json()
        return handler

    async def _watch(self, run_id: str, expires: float) -> int | None:
        """See that the handler has this run until then; return what the run has counted."""
        turn: int | None = None
        while True:
            handler = await self._look()
            is_early = time.time() < expires
            if handler.get("run_id") != run_id:
                if is_early:
                    self.witness.blame(f"{run_id} is missing too early: {handler}")
                return turn
            if handler["status"] == "completed":
                turn = handler["result"]["value"]["result"]
                if not is_early:
                    return turn
            await asyncio.sleep(RETRY_PAUSE)

    async def audit(self) -> None:
        """Do nothing: it may be removed."""

    def check(self) -> None:
        """Do nothing: there is no end to be checked."""


class Returns(Harness):
    """Kills a server that removes what ended a moment ago, while its handlers run again."""

    def __init__(self, store: str, folder: Path, **options: Any) -> None:
        super().__init__(store, folder, retention=RETENTION, **options)

    def _make_conduct(self, slot: int, count: int, chance: random.Random) -> Conduct:
        return Return(self._client, f"return-{slot}-{count}", chance)

    def _judge(self) -> None:
        super()._judge()
        returns = [conduct for conduct in self._conducted if isinstance(conduct, Return)]
        self.kept = sum(conduct.kept for conduct in returns)
        self.removed = sum(conduct.removed for conduct in returns)
