"""Rolling deploys: three servers that are replaced one after the other, while clients use them."""

import signal
from pathlib import Path
from typing import Any

from tests.durability.crash.rolling import RollingRestarts
from tests.replicas.crash.fleet import Fleet
from tests.support.postgres import connect, schema_of

LEFT = (
    "SELECT handler_id FROM {schema}.runs WHERE status = 'running' AND owner IS NOT NULL"
    " AND owner NOT IN (SELECT id FROM {schema}.incarnations)"
)


class RollingDeploys(RollingRestarts):
    """Starts a server and then tells another one to end, again and again."""

    waiters = 3

    def __init__(self, store: str, folder: Path, served: Fleet, **options: Any) -> None:
        super().__init__(store, folder, served=served, **options)
        self._fleet = served
        self._schema = schema_of(store)

    async def _restart(self) -> None:
        """Replace the server that has been there for the longest time."""
        old = self._fleet.used[self.tally.restarts % len(self._fleet.used)]
        free = next(place for place in self._fleet.places if not place.is_used)
        await self._fleet.begin(free)
        await self._fleet.wait_healthy()
        self._note_end(await old.server.end(signal.SIGTERM))
        old.is_used = False
        async with connect() as database:
            left = await database.fetch(LEFT.format(schema=self._schema))
        if left:  # others would find them all the same, as those of a server that was killed
            names = ", ".join(row["handler_id"] for row in left)
            self.tally.faults.append(f"a server has ended and not given up {names}")
