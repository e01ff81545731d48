"""The others: all that a server has to do with those that share its store."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from workflow_server.app.address import show_url
from workflow_server.app.clocks import StoreClock
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.reads import Reads
from workflow_server.app.replicas.code_version import find_code_version
from workflow_server.app.replicas.membership import Membership
from workflow_server.app.replicas.slots import SharedQueue, SlotKeeping
from workflow_server.app.replicas.takeover import Takeover
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.scheduling.restoring import Restorer
from workflow_server.app.scheduling.timers import Timers
from workflow_server.app.scheduling.turns import Turns
from workflow_server.app.settings import ServiceSettings
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.app.telemetry.replicas import ReplicaMetrics
from workflow_server.stores.replicas import Peers


class Others:
    """The membership of a server, and its takeover of what other servers leave.

    `advertised` is the URL under which they reach it, where one was given.
    """

    def __init__(
        self,
        peers: Peers,
        reads: Reads,
        workflows: Mapping[str, ServedWorkflow],
        log: CommitLog,
        live: LiveRuns,
        queue: RunQueue,
        restorer: Restorer,
        turns: Turns,
        timers: Timers,
        *,
        clock: StoreClock,
        settings: ServiceSettings,
        metrics: Metrics,
    ) -> None:
        assert isinstance(queue, SharedQueue)  # as that of a server among others is
        self.peers = peers
        self._workflows = workflows
        self._advertised = settings.advertise_address
        self._code_version = settings.code_version
        self._former = 0
        self.membership = Membership(
            peers.replicas,
            clock,
            on_fenced=log.fenced.set,
            on_changed=lambda: self.takeover.look(),
        )
        self.metrics = ReplicaMetrics(
            metrics,
            count_servers=self.membership.count_servers,
            measure_silence=self.membership.measure_silence,
        )
        self.takeover = Takeover(
            reads,
            peers,
            self.membership,
            workflows,
            live,
            queue,
            restorer,
            turns,
            timers,
            clock=clock,
            max_resumes=settings.max_resumes,
            pause=peers.replicas.heartbeat,
            metrics=self.metrics,
        )
        slots = SlotKeeping(reads, peers, queue)
        live.watch_moving(slots.note)
        self.work = {"takeover": self.takeover.run, "slots": slots.run}  # for ever
        log.doubt = self.membership
        live.is_shared = True

    async def introduce(self) -> None:
        """Say what this server serves, before its store is started."""
        # In a thread, for the files of the workflows are read.
        code = await asyncio.to_thread(find_code_version, dict(self._workflows), self._code_version)
        self.peers.introduce(self._workflows, code=code)

    async def join(self, address: str | None) -> str | None:
        """Be alive to the others; return the URL under which they reach this server.

        `address` is the one that it knows itself. Raises `StoreError` where no heartbeat is heard.
        """
        await self.membership.start(self.peers.open_pulse())
        self.metrics.tell_incarnation(self.peers.incarnation)
        self.takeover.start(former=self._former)
        port, host = urlsplit(address or "").port, self.peers.host
        if self._advertised is not None or host is None or port is None:
            return self._advertised or address
        return show_url(host, port)

    def lose(self) -> None:
        """Note that this incarnation is dead: its runs are to be let go of by the next one."""
        self._former = self.peers.incarnation
        self.metrics.fenced.inc()
