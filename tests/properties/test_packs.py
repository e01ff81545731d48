"""Events that are packed into rows come back as they were, from any place, in any portions."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workflow_server.schemas.records import EventRecord
from workflow_server.stores.compression import expand
from workflow_server.stores.packs import PACK_BYTES, PACK_EVENTS, pack_events, unpack_events

TIMES = st.none() | st.integers(-(2**40), 2**60)
ENVELOPES = st.sampled_from([b"{}", b'{"a":"\xc3\xa4"}', b"", b"x" * 40_000])
WORTH = st.sampled_from([0.0, 0.4, 1.0])  # of compressing
NO_BOUND = 1 << 40


@st.composite
def histories(draw: st.DrawFn) -> list[EventRecord]:
    """Return events of one run, most of them without a gap."""
    sequence = draw(st.integers(0, 3))
    events = []
    for _ in range(draw(st.integers(0, 12))):
        repeats = draw(st.sampled_from([1, 1, 2, PACK_EVENTS]))
        envelope, internal, time = draw(ENVELOPES), draw(st.booleans()), draw(TIMES)
        for _ in range(repeats if len(envelope) < 100 else 1):
            events.append(EventRecord("r", sequence, envelope, internal, time))
            sequence += 1
        sequence += draw(st.sampled_from([0, 0, 0, 2]))
    return events


def unpack(
    rows: list[tuple[Any, ...]], *, after: int = -1, limit: int = 1 << 20
) -> list[EventRecord]:
    """Return the events of rows, whatever their bytes."""
    return unpack_events(rows, after=after, limit=limit, max_bytes=NO_BOUND)


@given(histories(), WORTH, st.integers(-2, 3_000), st.integers(1, 400))
def test_events_come_back_after_a_cursor_up_to_a_limit(
    events: list[EventRecord], worth: float, after: int, limit: int
) -> None:
    expected = [event for event in events if event.sequence > after][:limit]
    assert unpack(pack_events(events, worth=worth), after=after, limit=limit) == expected


@given(histories(), WORTH, st.integers(1, 200_000))
def test_no_further_pack_is_taken_when_there_are_bytes_enough(
    events: list[EventRecord], worth: float, max_bytes: int
) -> None:
    rows = pack_events(events, worth=worth)
    found = unpack_events(rows, after=-1, limit=len(events) + 1, max_bytes=max_bytes)
    assert found == events[: len(found)]
    assert bool(found) is bool(events)
    last = unpack([row for row in rows if found and row[2] == found[-1].sequence])
    assert _bytes_of(found) - _bytes_of(last) <= max_bytes
    assert found == events or _bytes_of(found) + len(found) >= max_bytes


@given(histories(), st.lists(st.text("ab", min_size=1, max_size=1), max_size=30))
def test_runs_are_packed_apart_however_their_events_follow_one_another(
    events: list[EventRecord], order: list[str]
) -> None:
    mixed = [
        EventRecord(order[index % len(order)] if order else "r", *_but_run(event))
        for index, event in enumerate(events)
    ]
    found = unpack(pack_events(mixed, worth=0.4))
    assert sorted(found, key=lambda event: event.sequence) == mixed


@given(histories())
def test_a_pack_is_bounded_unless_an_event_is_large(events: list[EventRecord]) -> None:
    for _, first, last, _, _, envelopes in pack_events(events, worth=0.4):
        assert last - first < PACK_EVENTS
        before_the_last = expand(envelopes).rpartition(b"\n")[0]
        assert len(before_the_last) <= PACK_BYTES + PACK_EVENTS


def _bytes_of(events: list[EventRecord]) -> int:
    return sum(len(event.envelope) for event in events)


def _but_run(event: EventRecord) -> tuple[int, bytes, bool, int | None]:
    return event.sequence, event.envelope, event.internal, event.emitted_at
