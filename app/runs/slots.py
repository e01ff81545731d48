"""The slot of a run: what it takes up of the server and of its workflow while it is at work."""

import asyncio
from typing import Protocol

from workflow_server.app.engine.served import ServedWorkflow


class SlotKeeper(Protocol):
    """The queue that a slot belongs to."""

    def enter(self, slot: "Slot") -> None:
        """Count a run that is at work."""

    def leave(self, slot: "Slot", *, for_workflow: bool) -> None:
        """Count a run no longer, for its workflow too if said so, and let others begin."""


class Slot:
    """One run's slot: waited for, given up while the run waits, given back at its end.

    `accepted` is the run's place in the order of acceptance, and `earlier` whether it was claimed
    from an earlier life of the server. `counts` is whether it counts among the runs at work, and
    `counts_for_workflow` whether it does among those of its workflow.
    """

    def __init__(
        self,
        keeper: SlotKeeper,
        workflow: ServedWorkflow,
        accepted: int,
        *,
        run_id: str = "",
        earlier: bool = False,
    ) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.accepted = accepted
        self.earlier = earlier
        self.granted: asyncio.Future[None] | None = None
        self.counts = False
        self.counts_for_workflow = False
        self._keeper = keeper

    @property
    def is_pending(self) -> bool:
        """Return whether the run waits for the slot."""
        return self.granted is not None

    @property
    def is_given_up(self) -> bool:
        """Return whether the slot is not to be granted: it is already, or its run ends."""
        return self.granted is None or self.granted.cancelled()

    async def wait(self) -> None:
        """Return when the run has the slot."""
        if self.granted is not None:
            await self.granted

    def rest(self) -> bool:
        """Make room for another run: this one waits. Return whether it counts for its workflow.

        It does for a workflow's own `num_concurrent_runs`, which limits whole runs.
        """
        whole = self.workflow.concurrent_runs is not None
        self._keeper.leave(self, for_workflow=not whole)
        return whole

    def go_on(self) -> None:
        """Be at work again, at once, also where there is no room."""
        self._keeper.enter(self)

    def release(self) -> None:
        """Give the slot back, or wait for it no longer; releasing twice does nothing."""
        self._keeper.leave(self, for_workflow=True)
