"""Metrics of a server that shares its store with others; a server alone has none of them."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from importlib.metadata import version

from prometheus_client import Histogram, Info

from workflow_server.app.telemetry.metrics import PREFIX, REQUEST_SECONDS, Metrics


class ServerState(StrEnum):
    """The states of servers that are told apart; a later release may write more."""

    JOINING = "joining"
    SERVING = "serving"
    DRAINING = "draining"
    OTHER = "other"


def read_state(written: str | None) -> ServerState:
    """Return the state that a server has written of itself; None before it has."""
    if written is None:
        return ServerState.JOINING
    try:
        return ServerState(written)
    except ValueError:
        return ServerState.OTHER


class Reason(StrEnum):
    """The reason for which runs were taken from the server that had them."""

    DEAD = "dead"
    FENCED = "fenced"


class Forwarded(StrEnum):
    """The outcome of a request to another server."""

    DONE = "done"
    REFUSED = "refused"
    MISDIRECTED = "misdirected"
    NOT_REACHED = "not_reached"
    UNKNOWN = "unknown"


class ReplicaMetrics:
    """The instruments of one of many servers.

    `count_servers` returns how many are alive in a state, and `measure_silence` the seconds since
    the last heartbeat that the store has taken.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        count_servers: Callable[[ServerState], float],
        measure_silence: Callable[[], float],
    ) -> None:
        self._incarnation = Info(
            f"{PREFIX}_incarnation",
            "The number of this life of the server, and its release.",
            registry=metrics.registry,
        )
        metrics.observe_each(
            "servers",
            "Servers that are alive, by state, as of the last heartbeat.",
            "state",
            {state.value: partial(count_servers, state) for state in ServerState},
        )
        metrics.observe(
            "heartbeat_age_seconds",
            "Time since the last heartbeat that the store has taken.",
            measure_silence,
        )
        self.fenced = metrics.add_counter("fenced", "Times that the others gave this server up.")
        takeovers = metrics.add_counter("takeovers", "Runs taken from a server.", "reason")
        # Each of them from the beginning, or the first one of all would be no increase.
        self.takeovers = {reason: takeovers.labels(reason.value) for reason in Reason}
        self.claims = metrics.add_counter("claims", "Runs claimed that no server had.")
        forwarded = Histogram(
            f"{PREFIX}_forwarded_request_seconds",
            "Time of a request to another server, in seconds.",
            ["outcome"],
            buckets=REQUEST_SECONDS,
            registry=metrics.registry,
        )
        self._forwarded = {outcome: forwarded.labels(outcome.value) for outcome in Forwarded}

    def tell_incarnation(self, incarnation: int) -> None:
        """Tell which life of the server this is from now on."""
        release = version("workflow-server")
        self._incarnation.info({"incarnation": str(incarnation), "version": release})

    def count_forwarded(self, outcome: Forwarded, seconds: float) -> None:
        """Count a request to another server that took some seconds."""
        self._forwarded[outcome].observe(seconds)
