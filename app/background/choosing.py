"""The choice of who does the work beside the runs."""

from collections.abc import Sequence

from workflow_server.app.background.contract import Background, Work
from workflow_server.app.background.local import LocalBackground
from workflow_server.app.background.shared import SharedBackground
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.stores.replicas import Peers


def make_background(works: Sequence[Work], metrics: Metrics, peers: Peers | None) -> Background:
    """Return what does the work here, or at one of the servers where the store has `peers`."""
    if peers is None:
        return LocalBackground(works, metrics)
    return SharedBackground(works, metrics, peers)
