"""The history of a run: its ticks and what they left, packed, compressed, and kept until a purge.

While a run goes on, the store has its ticks since the last snapshot anyway. So a pack is written
only where those are about to be removed, or are many: most runs have one, with their last record.

A pack is lines. A tick is followed by those beside it, which say what the run held after it, in
the bytes that the journal has of that. What a run began with stands beside its first tick, before
what that has left. Of a long run there are snapshots and whole states in between, so that there are
some to go on from when the first packs are gone.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from workflow_server.app.engine.replay import Kept
from workflow_server.schemas.journals import CHANGED, SNAPSHOT, WHOLE
from workflow_server.schemas.records import HistoryExtent, HistoryRecord
from workflow_server.stores.compression import compress_small, expand

PACK_BYTES = 1 << 16  # of lines, after which a pack takes no more ticks
MAX_HISTORY_BYTES = 4 << 20  # of the packs of a run; the oldest go first
BASE_BYTES = 1 << 19  # of the packs since the last base, after which another one is due
MARKS = (WHOLE, CHANGED, SNAPSHOT)
MAX_LINE_BYTES = 1 << 20  # beside a tick; a larger one is not kept


class KeptTick(NamedTuple):
    """A tick of a history, with its number in the run and the lines beside it."""

    sequence: int
    tick: bytes
    beside: Sequence[bytes] = ()

    @property
    def changed_state(self) -> bool:
        """Return whether the state was written with the tick, not only kept again."""
        return bool(self.beside) and not self.beside[0].startswith(SNAPSHOT)


class History:
    """Gathers the ticks of one run, and the lines beside them, in packs."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._written = HistoryExtent()
        self._forgotten = 0
        self._based_at = 0  # bytes of packs before the last base
        self._ticks: list[list[bytes]] = []  # each with the lines beside it
        self._beginning: dict[bytes, bytes] = {}  # what the run begins with, by its mark
        self._bytes = 0

    def restore(self, kept: Kept) -> None:
        """Go on where the store ends: after its packs, and with the ticks that follow them."""
        self._written, self._based_at = kept.extent, kept.extent.bytes_until
        for record in kept.ticks:
            self.add(record.tick)
            if record.beside:
                self._put_beside(record.beside)
        for mark, document in kept.beginning.items():
            self.add_beside(mark, document)

    @property
    def is_full(self) -> bool:
        """Return whether the ticks that are gathered make a pack."""
        return self._bytes >= PACK_BYTES

    @property
    def is_base_due(self) -> bool:
        """Return whether the next snapshot is to be kept; there has to be a tick beside which."""
        is_old = self._written.bytes_until - self._based_at >= BASE_BYTES
        return not self._has_begun or (is_old and bool(self._ticks))

    @property
    def _has_begun(self) -> bool:
        return bool(self._ticks) or self._written.next_tick > 0

    def add(self, tick: bytes) -> None:
        """Take the next tick."""
        lines = [tick]
        if not self._has_begun:
            lines += filter(None, self._beginning.values())
        self._ticks.append(lines)
        self._bytes += sum(map(len, lines))

    def add_beside(self, mark: bytes, document: bytes) -> bytes:
        """Take what the run holds after the last tick, and return it as a line beside that.

        It is empty before the first tick, and where there is nothing to be kept.
        """
        line = mark + document
        if len(line) > MAX_LINE_BYTES or not document:
            line = WHOLE if mark != SNAPSHOT else b""
        if mark == SNAPSHOT:
            self._based_at = self._written.bytes_until
        if not self._has_begun:
            self._beginning[mark] = line
            return b""
        if line:
            self._put_beside(line)
        return line

    def take_beginning(self) -> bytes:
        """Return what the run begins with, as lines beside its first tick; nothing after that."""
        if not self._beginning:
            return b""
        beginning, self._beginning = self._beginning, {}
        return b"\n".join(filter(None, beginning.values()))

    def take_packs(self) -> list[HistoryRecord]:
        """Return the ticks that are gathered as packs."""
        return [self._pack(ticks) for ticks in self._split()]

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

    def _put_beside(self, lines: bytes) -> None:
        self._ticks[-1].append(lines)
        self._bytes += len(lines)

    def _split(self) -> Iterator[list[list[bytes]]]:
        ticks, self._ticks, self._bytes = self._ticks, [], 0
        start = size = 0
        for index, lines in enumerate(ticks, start=1):
            size += sum(map(len, lines))
            if size >= PACK_BYTES or index == len(ticks):
                yield ticks[start:index]
                start, size = index, 0

    def _pack(self, ticks: list[list[bytes]]) -> HistoryRecord:
        packed = compress_small(b"\n".join([line for lines in ticks for line in lines]))
        first, until = self._written.next_tick, self._written.bytes_until + len(packed)
        self._written = HistoryExtent(first + len(ticks), until)
        return HistoryRecord(self._run_id, first, first + len(ticks) - 1, until, packed)


def unpack(pack: HistoryRecord) -> Iterator[KeptTick]:
    """Yield the ticks of a pack; ValueError where it is damaged."""
    sequence, tick, beside = pack.first, b"", list[bytes]()
    for line in expand(pack.ticks).split(b"\n"):
        if line.startswith(MARKS):
            beside.append(line)
            continue
        if tick:
            yield KeptTick(sequence, tick, beside)
            sequence, beside = sequence + 1, []
        tick = line
    yield KeptTick(sequence, tick, beside)
