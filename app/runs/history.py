"""The history of a run: its ticks, packed and compressed, and kept until the run is purged.

While a run goes on, the store has its ticks since the last snapshot anyway. So a pack is written
only where those are about to be removed, or are many: most runs have one, with their last record.
"""

from collections.abc import Iterable

from workflow_server.schemas.records import HistoryExtent, HistoryRecord
from workflow_server.stores.compression import compress_small

PACK_BYTES = 1 << 16  # of ticks, after which a pack takes no more of them
MAX_HISTORY_BYTES = 4 << 20  # of the packs of a run; the oldest go first


class History:
    """Gathers the ticks of one run in packs."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._written = HistoryExtent()
        self._forgotten = 0
        self._ticks: list[bytes] = []
        self._bytes = 0

    def restore(self, written: HistoryExtent, ticks: Iterable[bytes]) -> None:
        """Go on where the store ends: after its packs, and with the ticks that follow them."""
        self._written = written
        for tick in ticks:
            self.add(tick)

    @property
    def is_full(self) -> bool:
        """Return whether the ticks that are gathered make a pack."""
        return self._bytes >= PACK_BYTES

    def add(self, tick: bytes) -> None:
        """Take the next tick."""
        self._ticks.append(tick)
        self._bytes += len(tick)

    def take_packs(self) -> list[HistoryRecord]:
        """Return the ticks that are gathered as packs."""
        packs: list[HistoryRecord] = []
        start = size = 0
        for index, tick in enumerate(self._ticks, start=1):
            size += len(tick)
            if size >= PACK_BYTES or index == len(self._ticks):
                packs.append(self._pack(self._ticks[start:index]))
                start, size = index, 0
        self._ticks, self._bytes = [], 0
        return packs

    def forget(self) -> int:
        """Return the size of all packs before which they are removed; 0 where no more are.

        It grows by steps, for to look for what is to be removed takes as long as there are packs.
        """
        excess = max(0, self._written.bytes_until - MAX_HISTORY_BYTES)
        forgotten = -(-excess // PACK_BYTES) * PACK_BYTES
        if forgotten == self._forgotten:
            return 0
        self._forgotten = forgotten
        return forgotten

    def _pack(self, ticks: list[bytes]) -> HistoryRecord:
        packed = compress_small(b"\n".join(ticks))
        first, until = self._written.next_tick, self._written.bytes_until + len(packed)
        self._written = HistoryExtent(first + len(ticks), until)
        return HistoryRecord(self._run_id, first, first + len(ticks) - 1, until, packed)
