"""Fitting: which of the runs that nobody has go on here, where servers have different code.

A run goes on at a server of the version that had it last, where there is one. What those have not
taken within a heartbeat, any server takes that may fit. A run that nobody fits is held, and goes on
when a server comes that has not tried it.
"""

import asyncio
from collections.abc import Collection, Sequence

from workflow_server.app.reads import Reads
from workflow_server.app.replicas.membership import Membership
from workflow_server.app.scheduling.restoring import Restorer
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.stores.replicas import Peers

logger = get_logger(__name__)

COUNTED = 10_000  # runs that wait to be claimed, counted for a share
HELD_PAUSE = 10.0  # seconds between two looks at held runs, while the members are the same
STRANDED_BEATS = 5  # heartbeats in which a server may come that fits, before a run is held
STRANDED_AT_ONCE = 1_000  # runs


class Fitting:
    """Looks after runs that not every server can have."""

    def __init__(
        self, reads: Reads, peers: Peers, membership: Membership, restorer: Restorer
    ) -> None:
        self._reads = reads
        self._peers = peers
        self._membership = membership
        self._restorer = restorer
        self.start()

    def start(self) -> None:
        """Begin with nothing seen."""
        self._left_since: float | None = None
        self._looked_at: tuple[int, ...] = ()
        self._look_again_at = 0.0
        self._stranded: dict[str, float] = {}

    async def find_spared(
        self, workflows: Collection[str], *, full: Collection[str]
    ) -> Sequence[str]:
        """Return the versions of code whose runs are left to servers that have it.

        There are none, once runs have been left for a heartbeat: those servers have no room.
        """
        codes = await self._reads.ask(self._peers.versions.list_codes())
        is_left = codes and (
            await self._count(workflows, (), full) > await self._count(workflows, codes, full)
        )
        now = asyncio.get_running_loop().time()
        if not is_left:
            self._left_since = None
        elif self._left_since is None:
            self._left_since = now
        elif now - self._left_since >= self._peers.replicas.heartbeat:
            return ()
        return codes

    async def _count(
        self, workflows: Collection[str], spared: Collection[str], full: Collection[str]
    ) -> int:
        count = self._peers.count_unclaimed(workflows, limit=COUNTED, spared=spared, full=full)
        return await self._reads.ask(count)

    async def claim_held(self, workflows: Collection[str], *, limit: int) -> Sequence[str]:
        """Claim held runs that no server of this code has tried; none where that was just done."""
        now = asyncio.get_running_loop().time()
        members = self._membership.members
        if members == self._looked_at and now < self._look_again_at:
            return ()
        claimed = await self._reads.ask(self._peers.versions.claim_held(workflows, limit=limit))
        if len(claimed) < limit:
            self._looked_at, self._look_again_at = members, now + HELD_PAUSE
        return claimed

    async def hold_stranded(self) -> None:
        """Hold the runs that no server has been able to have for a while."""
        listed = self._peers.versions.list_stranded(limit=STRANDED_AT_ONCE)
        now = asyncio.get_running_loop().time()
        found = await self._reads.ask(listed)
        self._stranded = {run_id: self._stranded.get(run_id, now) for run_id in found}
        bound = STRANDED_BEATS * self._peers.replicas.heartbeat
        ripe = [run_id for run_id, since in self._stranded.items() if now - since >= bound]
        if ripe:
            logger.warning("no server fits runs that nobody has", runs=len(ripe))
            await self._restorer.hold_stranded(ripe)
