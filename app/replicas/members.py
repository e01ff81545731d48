"""Members: the servers that share the store, as an operator sees them."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workflow_server.app.errors import ServerNotFound, ServerUnreachable
from workflow_server.app.reads import Reads
from workflow_server.app.replicas.exchange import Exchange
from workflow_server.app.replicas.forwarding import NotTaken
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.schemas.internal import DRAIN, Done, DrainMessage
from workflow_server.schemas.records import Phase, ServerRecord
from workflow_server.stores.replicas import Owner

Counts = Mapping[Phase, int]


@dataclass(frozen=True, slots=True)
class Member:
    """A server, its running runs by phase, and whether it is the one that was asked."""

    server: ServerRecord
    runs: Counts
    is_asked: bool


@dataclass(frozen=True, slots=True)
class MemberList:
    """All servers, the oldest first, and the running runs that are at none of them, by phase."""

    members: list[Member]
    unowned: Counts


class Members:
    """Lists and drains the servers of the store; without an `exchange` this one is alone.

    `drain` begins to drain this server.
    """

    def __init__(
        self,
        reads: Reads,
        live: LiveRuns,
        exchange: Exchange | None,
        *,
        drain: Callable[[], None],
    ) -> None:
        self._reads = reads
        self._live = live
        self._exchange = exchange
        self._drain = drain

    async def list_members(self) -> MemberList:
        """Return all servers; raises `StoreFailed`."""
        servers = await self._reads.ask(self._reads.store.list_servers())
        exchange = self._exchange
        if exchange is None:
            alone = {phase: count for phase, count in self._live.phases.items() if count}
            return MemberList([Member(server, alone, True) for server in servers], {})
        counts: defaultdict[int | None, dict[Phase, int]] = defaultdict(dict)
        for counted in await exchange.count_runs():
            counts[counted.incarnation][counted.phase] = counted.runs
        members = [
            Member(server, counts[server.incarnation], server.incarnation == exchange.incarnation)
            for server in servers
        ]
        return MemberList(members, counts[None])

    async def drain(self, incarnation: int) -> None:
        """Let a server take no more runs and give up its own.

        Raises `ServerNotFound`, `ServerUnreachable` or `OutcomeUnknown`.
        """
        exchange = self._exchange
        if exchange is None or incarnation == exchange.incarnation:
            self.drain_here(incarnation)
            return
        servers = await self._reads.ask(self._reads.store.list_servers())
        found = [server for server in servers if server.incarnation == incarnation]
        if not found:
            raise _unknown(incarnation)
        owner = Owner(incarnation, found[0].address)
        try:
            message = DrainMessage(incarnation=incarnation)
            await exchange.forwarding.ask(owner, DRAIN, message, Done, hops=1)
        except NotTaken as error:
            raise ServerUnreachable(
                f"The server {incarnation} cannot be reached; if it is dead, the others take its"
                " runs over."
            ) from error

    def drain_here(self, incarnation: int) -> None:
        """Begin to drain this server, if that is its number; raises `ServerNotFound`."""
        if self._exchange is None or incarnation != self._exchange.incarnation:
            raise _unknown(incarnation)
        self._drain()


def _unknown(incarnation: int) -> ServerNotFound:
    return ServerNotFound(f"No server has the number {incarnation}; it may have ended.")
