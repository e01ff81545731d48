"""Slots of workflows that limit their runs, counted over all servers that share a store.

A run of such a workflow begins once the store has given it a slot, which it keeps to its end, while
it waits and where another server goes on with it. So it is written down and queued first, and then
the store is asked. What other servers free is noticed when it is asked again, a moment later.
"""

import asyncio
import heapq
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.runs.slots import Slot
from workflow_server.app.scheduling.queue import Entry, RunQueue
from workflow_server.app.scheduling.waits import wait_for
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import Phase, RunRecord
from workflow_server.stores.replicas import Peers

logger = get_logger(__name__)

ASK_PAUSE = 0.25  # seconds until the store is asked again for slots that other servers may free
ASKED_AT_ONCE = 100  # runs of a workflow
NO_LIMIT = (1 << 31) - 1


class SharedQueue(RunQueue):
    """The slots of one of many servers: a workflow's own limit is counted by the store.

    `changed` is set when the store is to be asked.
    """

    def start(self) -> None:
        """Begin with no slot taken, none asked for, and not open yet."""
        self.changed = asyncio.Event()
        self._asked: dict[str, list[Entry]] = {}
        self._unasked: list[Slot] = []
        self._kept: list[Slot] = []
        super().start()

    def take(
        self,
        workflow: ServedWorkflow,
        accepted: int,
        *,
        run_id: str = "",
        earlier: bool = False,
        has_begun: bool = False,
    ) -> Slot:
        """Return the slot of a run, which is waited for where the workflow limits its runs."""
        if workflow.concurrent_runs is None:
            return super().take(
                workflow, accepted, run_id=run_id, earlier=earlier, has_begun=has_begun
            )
        slot = Slot(self, workflow, accepted, run_id=run_id, earlier=earlier)
        entry = self._put_off(slot, has_begun=has_begun)
        heapq.heappush(self._asked.setdefault(workflow.name, []), entry)
        self._unasked.append(slot)
        self.changed.set()
        return slot

    def take_resting(
        self, workflow: ServedWorkflow, accepted: int, *, counts: bool, run_id: str = ""
    ) -> Slot:
        """Return the slot of a waiting run, which has it also where there is none left."""
        slot = super().take_resting(workflow, accepted, counts=counts, run_id=run_id)
        if workflow.concurrent_runs is not None:
            self._kept.append(slot)
            self.changed.set()
        return slot

    def leave(self, slot: Slot, *, for_workflow: bool) -> None:
        """Count a run no longer, and let others begin in its place."""
        super().leave(slot, for_workflow=for_workflow)
        self.changed.set()

    def open(self) -> None:
        """Let runs begin that are accepted now, too."""
        super().open()
        self.changed.set()

    def claim(self, slot: Slot) -> None:
        """Let a run of an earlier life begin before the queue is open."""
        super().claim(slot)
        self.changed.set()

    def has_room(self, workflow: ServedWorkflow) -> bool:
        """Return whether one more run of a workflow may be at work, as far as is known here."""
        return self._count_room(workflow, None) > 0 and not self._asked.get(workflow.name)

    def lacks_slots(self, workflow: ServedWorkflow) -> bool:
        """Return whether there is room here for runs of a workflow that wait for its slots."""
        return self._count_room(workflow, None) > 0 and bool(self._asked.get(workflow.name))

    @property
    def room(self) -> int:
        """The number of runs that may be taken in; those that wait for the store take up none."""
        entries = chain.from_iterable(self._asked.values())
        asked = sum(not entry[-1].is_given_up for entry in entries)
        return max(self._limits.max_runs - self._at_work - (self.pending - asked), 0)

    @property
    def is_asking(self) -> bool:
        """Return whether a run here has no slot of its workflow."""
        return bool(self._asked or self._kept)

    def list_asked(self) -> list[list[Slot]]:
        """Return the slots to ask for, those of each workflow together, the first ones first.

        They are as many as may begin here: others would keep slots that they cannot use.
        """
        if self._is_closed:
            return []
        for name, entries in list(self._asked.items()):
            entries[:] = [entry for entry in entries if not entry[-1].is_given_up]
            heapq.heapify(entries)
            if not entries:
                del self._asked[name]
        return [slots for entries in self._asked.values() if (slots := self._list_first(entries))]

    def _list_first(self, entries: Sequence[Entry]) -> list[Slot]:
        workflow = entries[0][-1].workflow
        begins = len(self._waiting.get(workflow.name, ()))
        room = min(self._count_room(workflow, None) - begins, ASKED_AT_ONCE)
        allowed = (entry for entry in sorted(entries) if self.is_open or entry[-1].earlier)
        return [entry[-1] for entry, _ in zip(allowed, range(room), strict=False)]

    def admit(self, slots: Sequence[Slot]) -> None:
        """Let runs begin to which the store has given slots, as there is room for them here."""
        admitted = set(map(id, slots))
        for entries in self._asked.values():
            for entry in entries:
                if id(entry[-1]) in admitted and not entry[-1].is_given_up:
                    self._push(entry)
            entries[:] = [entry for entry in entries if id(entry[-1]) not in admitted]
            heapq.heapify(entries)
        self._grant_all()

    def take_unasked(self, asked: Collection[Slot]) -> list[list[Slot]]:
        """Return the slots that were not asked for yet and are not in `asked`, by workflow.

        One of them may be had already, which another server was given; nobody else gets it.
        """
        by_workflow: dict[str, list[Slot]] = {}
        for slot in self._unasked:
            if not slot.is_given_up and slot not in asked:
                by_workflow.setdefault(slot.workflow.name, []).append(slot)
        self._unasked = []
        return [*by_workflow.values()]

    def put_back_unasked(self, slots: Iterable[Slot]) -> None:
        """Let the store be asked again which of them are had already."""
        self._unasked += slots

    def take_kept(self) -> list[Slot]:
        """Return the slots of waiting runs that the store is to count, and forget them."""
        kept, self._kept = self._kept, []
        return kept

    def put_back(self, kept: Sequence[Slot]) -> None:
        """Let the store be asked to count waiting runs again."""
        self._kept += kept

    def _can_begin(self, slot: Slot) -> bool:
        return (self.is_open or slot.earlier) and self._count_room(slot.workflow, None) > 0


class SlotKeeping:
    """Asks the store for the slots that runs wait for."""

    def __init__(self, reads: Reads, peers: Peers, queue: SharedQueue) -> None:
        self._reads = reads
        self._slots = peers.slots
        self._queue = queue

    def note(self, record: RunRecord) -> None:
        """Ask soon where a run was queued, and so is in the store now, or has freed a slot."""
        if record.phase in {Phase.QUEUED, Phase.HELD, Phase.ENDED}:
            self._queue.changed.set()

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            try:
                await self._ask_all()
            except StoreFailed as error:
                logger.warning("asking for slots was cut off", error=str(error))
            await wait_for(self._queue.changed, ASK_PAUSE if self._queue.is_asking else None)

    async def _ask_all(self) -> None:
        await self._keep()
        asked = self._queue.list_asked()
        await self._admit_granted(set(chain.from_iterable(asked)))
        for slots in asked:
            workflow = slots[0].workflow
            given = await self._take(workflow, slots, limit=workflow.concurrent_runs or NO_LIMIT)
            self._queue.admit([slot for slot in slots if slot.run_id in given])

    async def _admit_granted(self, asked: Collection[Slot]) -> None:
        """Let runs begin that came with their slots, whoever is before them."""
        unasked = self._queue.take_unasked(asked)
        try:
            for slots in unasked:
                given = await self._take(slots[0].workflow, slots, limit=0)
                self._queue.admit([slot for slot in slots if slot.run_id in given])
        except StoreFailed:
            self._queue.put_back_unasked(chain.from_iterable(unasked))
            raise

    async def _keep(self) -> None:
        """Count waiting runs that came back, whatever room there is."""
        kept = self._queue.take_kept()
        try:
            for slot in kept:
                await self._take(slot.workflow, [slot], limit=NO_LIMIT)
        except StoreFailed:
            self._queue.put_back(kept)
            raise

    async def _take(
        self, workflow: ServedWorkflow, slots: Sequence[Slot], *, limit: int
    ) -> Sequence[str]:
        run_ids = [slot.run_id for slot in slots]
        return await self._reads.ask(self._slots.take(workflow.name, run_ids, limit=limit))
