"""The tail of a run, bounded, and readers that move over its pages."""

from dataclasses import replace

import pytest

from tests.support.records import batch_of, make_record
from tests.support.stores import ScriptedStore
from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.streams.subscription import SharedPosition, Subscription
from workflow_server.app.streams.tail import PAGE_BYTES, TAIL_BYTES, TAIL_EVENTS, EventTail
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import EventRecord
from workflow_server.stores.base import Store


def make_events(first: int, count: int, *, size: int = 2) -> list[EventRecord]:
    """Return events with these sequences."""
    return [EventRecord("r", first + number, b"x" * size, False) for number in range(count)]


def held(tail: EventTail) -> list[int]:
    """Return the sequences that a tail still holds."""
    cursor = next(at for at in range(-1, tail.last + 1) if tail.pages_after(at) is not None)
    sequences: list[int] = []
    while pages := tail.pages_after(sequences[-1] if sequences else cursor):
        sequences += [event.sequence for page in pages for event in page.events]
    return sequences


def test_a_tail_holds_a_bounded_number_of_events() -> None:
    tail = EventTail()
    for start in range(0, 2 * TAIL_EVENTS, 64):
        tail.publish(make_events(start, 64))
    assert held(tail) == list(range(TAIL_EVENTS, 2 * TAIL_EVENTS))


def test_a_tail_holds_a_bounded_number_of_bytes() -> None:
    tail = EventTail()
    for number in range(40):
        tail.publish(make_events(number, 1, size=TAIL_BYTES // 8))
    assert held(tail) == list(range(32, 40))


def test_a_tail_holds_its_last_page_however_large() -> None:
    tail = EventTail()
    tail.publish(make_events(0, 1))
    tail.publish(make_events(1, 1, size=2 * TAIL_BYTES))
    assert held(tail) == [1]


def test_a_tail_that_has_dropped_what_is_asked_for_says_so() -> None:
    tail = EventTail()
    tail.publish(make_events(0, 1, size=2 * TAIL_BYTES))
    tail.publish(make_events(1, 1))
    assert tail.pages_after(-1) is None


def test_a_large_commit_becomes_pages_that_are_small_but_for_a_large_event() -> None:
    tail = EventTail()
    events = [
        *make_events(0, 1_000, size=1_000),
        *make_events(1_000, 1, size=TAIL_BYTES // 2),
        *make_events(1_001, 9),
    ]
    tail.publish(events)
    sizes: list[int] = []
    sequences: list[int] = []
    while pages := tail.pages_after(sequences[-1] if sequences else -1):
        sizes += [page.size for page in pages]
        sequences += [event.sequence for page in pages for event in page.events]
    assert sequences == list(range(1_010))
    is_large = [size > PAGE_BYTES + 1_000 for size in sizes]
    assert is_large == [False] * 7 + [True, False]


@pytest.mark.parametrize("cursor", [-1, 0, 3, 4, 5, 9])
def test_pages_after_a_cursor_begin_right_after_it(cursor: int) -> None:
    tail = EventTail()
    tail.publish(make_events(0, 5))
    tail.publish(make_events(5, 5))
    pages = tail.pages_after(cursor)
    assert pages is not None
    sequences = [event.sequence for page in pages for event in page.events]
    assert sequences == list(range(cursor + 1, 10))


def reads_of(store: Store) -> Reads:
    """Return the reading side of a store."""
    return Reads(store, Metrics())


async def read_all(subscription: Subscription) -> list[int]:
    """Return the sequences of everything that a reader gets."""
    sequences: list[int] = []
    while not subscription.exhausted:
        for page in await subscription.next_pages(timeout=None):
            sequences += [event.sequence for event in page.events]
    return sequences


async def test_a_reader_gets_old_events_from_the_store_and_new_ones_from_the_tail() -> None:
    store, tail = ScriptedStore(), EventTail()
    events = make_events(0, 1_000, size=TAIL_BYTES // 100)
    await store.commit(replace(batch_of(make_record()), events=events))
    for start in range(0, 1_000, 10):
        tail.publish(events[start : start + 10])
    tail.end()
    subscription = Subscription("r", reads=reads_of(store), tail=tail, after=-1, last=-1)
    assert await read_all(subscription) == list(range(1_000))


async def test_a_reader_of_a_store_that_fails_is_told() -> None:
    store = ScriptedStore()
    store.down = True
    subscription = Subscription("r", reads=reads_of(store), tail=None, after=-1, last=5)
    with pytest.raises(StoreFailed):
        await subscription.next_pages(timeout=None)


async def test_a_reader_of_a_tail_whose_store_failed_is_told() -> None:
    tail = EventTail()
    tail.fail()
    subscription = Subscription("r", reads=reads_of(ScriptedStore()), tail=tail, after=-1, last=-1)
    with pytest.raises(StoreFailed):
        await subscription.next_pages(timeout=None)


async def test_a_reader_that_is_sent_away_before_the_last_event_is_told_of_more() -> None:
    tail = EventTail()
    tail.publish(make_events(0, 2))
    tail.end()
    tail.close()
    subscription = Subscription("r", reads=reads_of(ScriptedStore()), tail=tail, after=0, last=-1)
    assert (subscription.exhausted, subscription.dismissed, subscription.complete) == (
        True,
        True,
        False,
    )


async def test_a_reader_waits_no_longer_than_it_wants_to() -> None:
    subscription = Subscription(
        "r", reads=reads_of(ScriptedStore()), tail=EventTail(), after=-1, last=-1
    )
    assert await subscription.next_pages(timeout=0.001) == []
    assert not subscription.exhausted


async def test_the_shared_position_is_given_back_once() -> None:
    position = SharedPosition()
    assert await position.acquire(0)
    subscription = Subscription("r", reads=reads_of(ScriptedStore()), tail=None, after=-1, last=-1)
    subscription.share(position)
    subscription.close()
    subscription.close()
    assert not position.held
