"""The history of a run in packs: large enough, in order, and bounded."""

from workflow_server.app.engine.replay import Kept
from workflow_server.app.runs.history import MAX_HISTORY_BYTES, PACK_BYTES, History
from workflow_server.schemas.records import HistoryExtent, HistoryRecord, TickRecord
from workflow_server.stores.compression import expand

HALF = PACK_BYTES // 2


def fill(history: History, *ticks: bytes) -> list[HistoryRecord]:
    """Add ticks, and return the packs of all that is gathered."""
    for tick in ticks:
        history.add(tick)
    return history.take_packs()


def test_a_pack_has_the_ticks_since_the_last_one_and_is_compressed() -> None:
    history = History("r")
    (first,) = fill(history, b"{}" * 500, b"[]" * 500)
    (second,) = fill(history, b"{}")
    assert (first.first, first.last, second.first, second.last) == (0, 1, 2, 2)
    assert expand(first.ticks).split(b"\n") == [b"{}" * 500, b"[]" * 500]
    assert len(first.ticks) < 200
    assert (first.bytes_until, second.bytes_until) == (len(first.ticks), len(first.ticks) + 2)
    assert history.take_packs() == []


def test_ticks_that_are_many_make_several_packs() -> None:
    history = History("r")
    history.add(bytes(HALF))
    was_full = history.is_full
    history.add(bytes(HALF))
    packs = fill(history, bytes(HALF), bytes(HALF), bytes(1))
    assert (was_full, history.is_full) == (False, False)
    assert [(pack.first, pack.last) for pack in packs] == [(0, 1), (2, 3), (4, 4)]


def test_a_history_goes_on_after_what_the_store_has() -> None:
    history = History("r")
    history.restore(Kept(HistoryExtent(7, 100), [TickRecord("r", 7, b"seven", b"=7")]))
    (pack,) = fill(history, b"eight")
    assert (pack.first, pack.last, pack.bytes_until) == (7, 8, 100 + len(pack.ticks))


def test_of_a_long_history_the_first_packs_are_forgotten_by_steps() -> None:
    history = History("r")
    history.restore(Kept(HistoryExtent(7, MAX_HISTORY_BYTES - 2)))
    (pack,) = fill(history, b"{}")
    assert (pack.bytes_until, history.forget()) == (MAX_HISTORY_BYTES, 0)
    fill(history, b"{}")
    assert (history.forget(), history.forget()) == (PACK_BYTES, 0)
    history.restore(Kept(HistoryExtent(9, MAX_HISTORY_BYTES + PACK_BYTES - 2)))
    fill(history, b"{}")
    assert history.forget() == 0
    fill(history, b"{}")
    assert history.forget() == 2 * PACK_BYTES
