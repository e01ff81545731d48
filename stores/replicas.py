"""The contract of a store that many servers share: who is alive, and whose a run is.

A store that one server owns has none of this (`Store.peers` is None).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from workflow_server.schemas.records import Phase, Suspect


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Settings of a server that shares its store with others.

    It beats every `heartbeat` seconds, and is dead to the others `stale_after` seconds after the
    last beat.
    """

    heartbeat: float = 1.0
    stale_after: float = 5.0


@dataclass(frozen=True, slots=True)
class Owner:
    """The incarnation that has a run, and the URL under which it is reached, where it has one."""

    incarnation: int
    address: str | None


NOBODY = Owner(0, None)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The place of a run: at its `owner`, or, while it has not ended, at no server that is alive.

    `epoch` counts how often the run changed hands.
    """

    run_id: str
    has_ended: bool
    epoch: int
    owner: Owner | None


@dataclass(frozen=True, slots=True)
class RunCount:
    """The number of running runs in a phase that an incarnation has; None: that nobody has."""

    incarnation: int | None
    phase: Phase
    runs: int


@dataclass(frozen=True, slots=True)
class Beat:
    """Answer of the store to a heartbeat.

    `members` are the incarnations that are alive, in order, and `states` what each has written of
    itself (`ServerRecord.state`). `time` and `uptime` are those of the store's clock, in
    microseconds, which all servers go by. `is_one_cut` hints that another one has lost its
    connection to the store; nothing is said of that soon after this one has lost its own, for all
    have lost theirs when the store was away.
    """

    members: tuple[int, ...]
    states: tuple[str | None, ...]
    time: int
    uptime: int
    is_one_cut: bool = False


class Pulse(ABC):
    """The heartbeat of an incarnation, on a connection of its own.

    It is for one event loop, which need not be the store's.
    """

    @abstractmethod
    async def beat(self) -> Beat:
        """Say that this incarnation is alive.

        Raises `StoreFenced` where it is dead to the others, and `StoreUnavailable`.
        """

    @abstractmethod
    async def prune(self, *, takes_stale: bool = True, takes_hints: bool = False) -> None:
        """Remove the incarnations that have not beaten for `stale_after` seconds.

        With `takes_hints` those too that have lost their connection to the store, and whose last
        beat is one and a half of them old: the hint may be wrong, and they join anew then. Without
        `takes_stale` no others.

        Nothing is removed where this one has not beaten just before: after an outage of the store
        all others are stale, too. A batch of a removed one that is under way is waited for, and
        what it writes later is refused.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""


class Jobs(ABC):
    """Work that one of the servers does at a time, by its name; on a connection of its own.

    A name has one job. It belongs to the incarnation that has taken it, as long as that is alive.
    Each method raises `StoreUnavailable` or `StoreFenced`; what it was asked for may be done then.
    """

    @abstractmethod
    async def take(self, name: str) -> bool:
        """Take the job of a name, where it is due; return whether this incarnation has it.

        It is due at once where there was none, where its incarnation is dead, and where this one
        has it and asks again, since it knows nothing of that then.
        """

    @abstractmethod
    async def end(self, name: str, *, again_in: float) -> None:
        """End the job of a name, which is due again in so many seconds.

        Nothing is done where this incarnation does not have it.
        """

    @abstractmethod
    async def give_back(self) -> None:
        """Let all jobs that this incarnation has be due at once, for any other."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connection, for good: what is asked later raises `StoreUnavailable`."""


class SharedSlots(ABC):
    """The slots of workflows that limit their runs, counted over all servers."""

    @abstractmethod
    async def take(
        self, workflow_name: str, run_ids: Sequence[str], *, limit: int
    ) -> Sequence[str]:
        """Give runs of this incarnation slots; return those that have one, in no order.

        The first ones get theirs while fewer than `limit` running runs of the workflow, at all
        servers and at none, have one; whoever asks meanwhile waits. A run keeps it until it ends or
        is held. One that is not in the store yet, or is just being written, gets none.
        """


class Versions(ABC):
    """The part of a shared store that is about servers of different code.

    A server may fit a run where it serves its workflow, reads the format in which it is stored, and
    has no version of code that is known not to fit.
    """

    @abstractmethod
    async def find_other(self, run_id: str, *, is_served: bool) -> Owner | None:
        """Return another server that may fit a run, where this one is known not to; else None.

        `is_served` is whether this server serves the workflow. Servers that are not about to stop
        come first, and then those whose code had the run last.
        """

    @abstractmethod
    async def pass_on(self, run_id: str) -> Owner | None:
        """Note that this server's code does not fit a run that it has.

        Where another server may fit, the run belongs to nobody then, and that server is returned.
        """

    @abstractmethod
    async def list_newer(self, run_ids: Collection[str]) -> Collection[str]:
        """Return those of some runs whose format only later releases read."""

    @abstractmethod
    async def list_codes(self) -> Sequence[str]:
        """Return the other versions of code of the servers that take runs, in order."""

    @abstractmethod
    async def claim_held(self, workflows: Collection[str], *, limit: int) -> Sequence[str]:
        """Claim held runs of these workflows that this server has not tried; as `claim_next`."""

    @abstractmethod
    async def list_stranded(self, *, limit: int) -> Sequence[str]:
        """Return queued and working runs that nobody has and no server fits, oldest first."""


class Peers(ABC):
    """The part of a shared store that is about other servers.

    An incarnation that is dead never comes back, so a list of dead ones stays true, and no method
    asks who is alive in the statement that takes runs: it would read the runs later than the
    incarnations, and take those of a server that has just joined. What is written is fenced.
    """

    replicas: Replicas

    @property
    @abstractmethod
    def versions(self) -> Versions:
        """Return the part that is about servers of different code."""

    @property
    @abstractmethod
    def slots(self) -> SharedSlots:
        """Return the part that is about the limits of workflows."""

    @property
    @abstractmethod
    def incarnation(self) -> int:
        """Return the number of this incarnation; 0 where the store is not open."""

    @property
    @abstractmethod
    def host(self) -> str | None:
        """Return the address of this machine as the database sees it; None for a local socket."""

    @abstractmethod
    def introduce(self, workflows: Collection[str], *, code: str) -> None:
        """Say what this server serves, and by which version of code, before the store is started.

        Others know it as soon as this incarnation is there.
        """

    @abstractmethod
    def open_pulse(self) -> Pulse:
        """Return the heartbeat of this incarnation; it connects when it is first used."""

    @abstractmethod
    def open_jobs(self) -> Jobs:
        """Return the jobs, for this incarnation; it connects when it is first used."""

    @abstractmethod
    async def list_dead(self) -> Sequence[int]:
        """Return the incarnations that have running runs and are dead, in order."""

    @abstractmethod
    async def list_present(self, owner: int) -> Sequence[Suspect]:
        """Return the runs that a dead incarnation had at work, or was restoring, in acceptance.

        They are as many as a server has at work at most.
        """

    @abstractmethod
    async def write_verdict(
        self, owner: int, suspects: Sequence[Suspect], *, kept: Collection[str]
    ) -> bool:
        """Write the `resumes` and `strikes` of runs of a dead incarnation, which are queued then.

        This incarnation has those that are `kept`, and nobody the others. Runs that the dead one no
        longer has are passed over. Return whether any was written: where none was, another server
        has judged.
        """

    @abstractmethod
    async def disown(self, owner: int, *, limit: int, with_present: bool) -> Sequence[str]:
        """Let at most `limit` running runs of a dead incarnation belong to nobody; return them.

        Without `with_present` those are left out that `list_present` lists.
        """

    @abstractmethod
    async def release(self, run_ids: Sequence[str]) -> None:
        """Let runs of this incarnation belong to nobody: whoever has room goes on with them."""

    @abstractmethod
    async def claim_next(
        self,
        workflows: Collection[str],
        *,
        limit: int,
        spared: Collection[str] = (),
        full: Collection[str] = (),
    ) -> Sequence[str]:
        """Claim queued and working runs of these workflows that nobody has; return their ids.

        They come in the order of acceptance, at most `limit`; those that another server is just
        claiming are passed over, and so are those that this server's code is known not to fit, or
        that code of a `spared` version had last. Of `full` workflows only those are claimed that
        have a slot, which nobody else gets. What is written of them is what `Store.claim` writes.
        """

    @abstractmethod
    async def count_unclaimed(
        self,
        workflows: Collection[str],
        *,
        limit: int,
        spared: Collection[str] = (),
        full: Collection[str] = (),
    ) -> int:
        """Return how many runs `claim_next` could claim, counted up to `limit`."""

    @abstractmethod
    async def list_ours(self) -> Sequence[str]:
        """Return the runs that this incarnation has at work, queued or just claimed, oldest first.

        A claim whose answer was lost is not repeated: what it claimed is found among them.
        """

    @abstractmethod
    async def find_runs(self, run_ids: Collection[str]) -> Sequence[Whereabouts]:
        """Return where runs are, in no order; unknown ones are left out."""

    @abstractmethod
    async def count_runs(self) -> Sequence[RunCount]:
        """Return how many running runs each incarnation has in each phase, in no order."""

    @abstractmethod
    async def get_secret(self) -> str:
        """Return the secret by which the servers of the store know one another."""
