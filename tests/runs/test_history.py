"""The history of a run in packs: large enough, in order, and bounded."""

import secrets

from workflow_server.app.engine.replay import Kept
from workflow_server.app.runs.history import (
    MAX_HISTORY_BYTES,
    MAX_LINE_BYTES,
    PACK_BYTES,
    History,
    KeptTick,
    unpack,
)
from workflow_server.schemas.journals import CHANGED, SNAPSHOT, WHOLE
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


def test_what_a_tick_left_stands_beside_it_and_what_a_run_begins_with_beside_the_first() -> None:
    history = History("r")
    begun = [history.add_beside(WHOLE, b"{}"), history.add_beside(SNAPSHOT, b"[]")]
    history.add(b'{"tick":0}')
    beside = history.take_beginning(), history.take_beginning()
    history.add(b'{"tick":1}')
    changed = history.add_beside(CHANGED, b"{1}")
    too_large = history.add_beside(CHANGED, bytes(MAX_LINE_BYTES))
    (pack,) = history.take_packs()
    assert (begun, beside) == ([b"", b""], (b"={}\n*[]", b""))
    assert (changed, too_large) == (b"+{1}", b"=")
    assert (pack.first, pack.last) == (0, 1)
    assert list(unpack(pack)) == [
        KeptTick(0, b'{"tick":0}', [b"={}", b"*[]"]),
        KeptTick(1, b'{"tick":1}', [b"+{1}", b"="]),
    ]


def test_a_snapshot_is_kept_in_the_beginning_and_after_so_many_bytes_of_packs() -> None:
    history = History("r")
    due = [history.is_base_due]
    fill(history, b"{}")
    history.restore(Kept(HistoryExtent(1, 10)))
    due.append(history.is_base_due)
    while not history.is_base_due:
        fill(history, secrets.token_hex(PACK_BYTES).encode())
        history.add(b"{}")
    history.add(b"{}")
    kept = history.add_beside(SNAPSHOT, b"[]")
    assert (due, kept, history.is_base_due) == ([True, False], b"*[]", False)


def test_no_snapshot_is_kept_where_all_ticks_before_it_are_in_packs() -> None:
    history = History("r")
    fill(history, *(secrets.token_bytes(PACK_BYTES).hex().encode() for _ in range(10)))
    was_due = history.is_base_due
    history.add(b"{}")
    assert (was_due, history.is_base_due) == (False, True)
