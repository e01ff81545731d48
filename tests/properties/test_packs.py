"""Events that are packed into rows come back as they were, from any place, in any portions."""

from hypothesis import given
from hypothesis import strategies as st

from workflow_server.schemas.records import EventRecord
from workflow_server.stores.packs import PACK_BYTES, PACK_EVENTS, pack_events, unpack_events

TIMES = st.none() | st.integers(-(2**40), 2**60)
ENVELOPES = st.sampled_from([b"{}", b'{"a":"\xc3\xa4"}', b"", b"x" * 40_000])


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


@given(histories(), st.integers(-2, 3_000), st.integers(1, 400))
def test_events_come_back_after_a_cursor_up_to_a_limit(
    events: list[EventRecord], after: int, limit: int
) -> None:
    expected = [event for event in events if event.sequence > after][:limit]
    assert unpack_events(pack_events(events), after=after, limit=limit) == expected


@given(histories(), st.lists(st.text("ab", min_size=1, max_size=1), max_size=30))
def test_runs_are_packed_apart_however_their_events_follow_one_another(
    events: list[EventRecord], order: list[str]
) -> None:
    mixed = [
        EventRecord(order[index % len(order)] if order else "r", *_but_run(event))
        for index, event in enumerate(events)
    ]
    found = unpack_events(pack_events(mixed), after=-1, limit=len(mixed) + 1)
    assert sorted(found, key=lambda event: event.sequence) == mixed


@given(histories())
def test_a_pack_is_bounded_unless_an_event_is_large(events: list[EventRecord]) -> None:
    for _, first, last, _, _, envelopes in pack_events(events):
        assert last - first < PACK_EVENTS
        before_the_last = envelopes.rpartition(b"\n")[0]
        assert len(before_the_last) <= PACK_BYTES + PACK_EVENTS


def _but_run(event: EventRecord) -> tuple[int, bytes, bool, int | None]:
    return event.sequence, event.envelope, event.internal, event.emitted_at
