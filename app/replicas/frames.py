"""Frames of a run's events on their way from one server to another: a line each.

`SEQUENCE INTERNAL EMITTED ENVELOPE` is an event. `at SEQUENCE` says that the store has the events
up to there, which are too large to be sent to whoever may not need them. `beat` says that the
server is alive, and `end` that the run has ended. A stream that ends otherwise goes on elsewhere.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from workflow_server.app.replicas.peers import Connection, PeerLost
from workflow_server.app.streams.tail import Page
from workflow_server.schemas.records import EventRecord

LARGE_PAGE = 1 << 20  # bytes of envelopes, from which on readers get a page from the store
MAX_LINE = 2 * LARGE_PAGE
BEAT = b"beat\n"
END = b"end\n"


@dataclass(frozen=True, slots=True)
class Reached:
    """The store has the events up to a sequence."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The run has ended, and all its events were sent."""


News = list[EventRecord] | Reached | Ended


def frame(page: Page) -> bytes:
    """Return a page of events as lines."""
    if page.size > LARGE_PAGE:
        return b"at %d\n" % page.last
    return b"".join([_frame(event) for event in page.events])


def _frame(event: EventRecord) -> bytes:
    emitted = b"-" if event.emitted_at is None else b"%d" % event.emitted_at
    return b"%d %d %b %b\n" % (event.sequence, event.internal, emitted, event.envelope)


async def read_news(
    connection: Connection, run_id: str, *, silence: float
) -> AsyncIterator[list[News]]:
    """Yield what a stream of lines says, as it comes, and nothing for a beat.

    Raises `PeerLost` where it breaks off, or says nothing for longer than `silence` seconds.
    """
    rest = b""
    while read := await connection.read(timeout=silence):
        lines = (rest + read).split(b"\n")
        rest = lines.pop()
        if len(rest) > MAX_LINE:
            raise PeerLost
        yield list(_parse(lines, run_id))


def _parse(lines: Iterable[bytes], run_id: str) -> Iterable[News]:
    events: list[EventRecord] = []
    for line in lines:
        word, _, rest = line.partition(b" ")
        if word.isdigit():
            internal, emitted, envelope = rest.split(b" ", 2)
            at = None if emitted == b"-" else int(emitted)
            events.append(EventRecord(run_id, int(word), envelope, internal == b"1", at))
            continue
        if events:
            yield events
            events = []
        if word == b"at":
            yield Reached(int(rest))
        elif word == b"end":
            yield Ended()
    if events:
        yield events
