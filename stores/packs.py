"""Events to the rows of SQL stores and back: a row holds many events of a run, a pack.

A row an event costs more than the event. The envelopes of a pack are its lines, since JSON has no
raw line breaks; a large pack is compressed. Its times are microseconds since the epoch: that of the
first event, then of each the time since the one before it.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

from pydantic_core import from_json, to_json

from workflow_server.schemas.records import EventRecord
from workflow_server.stores.base import StoreError
from workflow_server.stores.compression import compress, expand, size_of

PACK_COLUMNS = ("run_id", "first", "last", "internal", "emitted_at", "envelopes")
PACK_EVENTS = 256
PACK_BYTES = 1 << 16  # after which a pack takes no more events


def pack_events(events: Iterable[EventRecord], *, worth: float) -> list[tuple[Any, ...]]:
    """Return events as rows of `PACK_COLUMNS`; `worth` is when a pack is compressed."""
    of_run: dict[str, list[EventRecord]] = {}
    for event in events:
        of_run.setdefault(event.run_id, []).append(event)
    return [_row(pack, worth) for events in of_run.values() for pack in _split(events)]


def unpack_events(
    rows: Iterable[Sequence[Any]],
    *,
    after: int = -1,
    limit: int = sys.maxsize,
    max_bytes: int = sys.maxsize,
) -> list[EventRecord]:
    """Return the events of rows with a sequence greater than `after`, at most `limit`.

    No further row is taken where those before it have `max_bytes`.
    """
    events: list[EventRecord] = []
    size = 0
    for row in rows:
        if size >= max_bytes:
            break
        events += [event for event in _unpack(*row) if event.sequence > after]
        if len(events) >= limit:
            return events[:limit]
        size += size_of(row[-1])
    return events


def _split(events: Sequence[EventRecord]) -> Iterator[Sequence[EventRecord]]:
    start = size = 0
    for index, event in enumerate(events):
        if index > start and (
            size > PACK_BYTES
            or index - start == PACK_EVENTS
            or not _continues(events[index - 1], event)
        ):
            yield events[start:index]
            start, size = index, 0
        size += len(event.envelope)
    yield events[start:]


def _continues(before: EventRecord, event: EventRecord) -> bool:
    return event.sequence == before.sequence + 1 and (
        (event.emitted_at is None) is (before.emitted_at is None)
    )


def _row(events: Sequence[EventRecord], worth: float) -> tuple[Any, ...]:
    times = [event.emitted_at for event in events if event.emitted_at is not None]
    return (
        events[0].run_id,
        events[0].sequence,
        events[-1].sequence,
        _to_text([place for place, event in enumerate(events) if event.internal]),
        _to_text([times[0], *(b - a for a, b in pairwise(times))]) if times else None,
        compress(b"\n".join([event.envelope for event in events]), worth=worth),
    )


def _unpack(
    run_id: str, first: int, last: int, internal: str, emitted_at: str | None, envelopes: bytes
) -> list[EventRecord]:
    count = last - first + 1
    damaged = StoreError(f"The events {first} to {last} of the run {run_id} are damaged.")
    try:
        lines = expand(envelopes).split(b"\n")
    except ValueError as error:
        raise damaged from error
    times = [None] * count if emitted_at is None else list(accumulate(from_json(emitted_at)))
    if not len(lines) == len(times) == count:
        raise damaged
    hidden = set(from_json(internal))
    return [
        EventRecord(run_id, first + place, line, place in hidden, time)
        for place, (line, time) in enumerate(zip(lines, times, strict=True))
    ]


def _to_text(numbers: list[int]) -> str:
    return to_json(numbers).decode("ascii")
