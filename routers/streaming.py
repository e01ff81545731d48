"""Pages of events to the bytes of a stream.

The frames of a page are made once for all readers of a format, and many of them go out in one
write. SSE goes through sse-starlette, which watches for the client's disconnect; its own pings
are off, because a heartbeat is due only when nothing was sent.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from fastapi.responses import Response, StreamingResponse
from sse_starlette import EventSourceResponse

from app.runtime.encoding import without_qualified_name
from app.runtime.stream import Page, Subscription
from schemas.records import EventRecord

WRITE_BYTES = 64 * 1024
HEARTBEAT = b": heartbeat\n\n"
RECONNECT = b"retry: 1000\n\n"  # milliseconds; sent to readers whose server stops
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """How events are framed, and which."""

    sse: bool
    include_internal: bool
    include_qualified_name: bool

    def frames(self, page: Page) -> bytes:
        """Return the frames of a page."""
        frames = page.frames.get(self)
        if frames is None:
            frames = b"".join([self._frame(event) for event in page.events if self._shows(event)])
            page.frames[self] = frames
        return frames

    def _shows(self, event: EventRecord) -> bool:
        return self.include_internal or not event.internal

    def _frame(self, event: EventRecord) -> bytes:
        envelope = event.envelope
        if not self.include_qualified_name:
            envelope = without_qualified_name(envelope)
        if self.sse:
            return b"id: %d\ndata: %b\n\n" % (event.sequence, envelope)
        return envelope + b"\n"


def stream_response(
    subscription: Subscription, stream_format: StreamFormat, *, heartbeat: float | None
) -> Response:
    """Return the stream of a subscription, which it closes at its end."""
    if not stream_format.sse:
        body = _frames(subscription, stream_format, heartbeat=None)
        return StreamingResponse(body, media_type=NDJSON, headers=HEADERS)
    return EventSourceResponse(
        _frames(subscription, stream_format, heartbeat=heartbeat), ping=0, sep="\n"
    )


async def _frames(
    subscription: Subscription, stream_format: StreamFormat, *, heartbeat: float | None
) -> AsyncIterator[bytes]:
    try:
        while not subscription.exhausted:
            pages = await subscription.next_pages(timeout=heartbeat)
            if not pages and heartbeat and not subscription.exhausted:
                yield HEARTBEAT
            for frames in _writes(pages, subscription, stream_format):
                yield frames
        if subscription.dismissed and stream_format.sse:
            yield RECONNECT
    finally:
        subscription.close()


def _writes(
    pages: list[Page], subscription: Subscription, stream_format: StreamFormat
) -> Iterator[bytes]:
    """Yield the frames of some pages in writes of about `WRITE_BYTES`."""
    gathered: list[bytes] = []
    size = 0
    for index, page in enumerate(pages):
        frames = stream_format.frames(page)
        if frames:
            gathered.append(frames)
            size += len(frames)
        if gathered and (size >= WRITE_BYTES or index == len(pages) - 1):
            yield gathered[0] if len(gathered) == 1 else b"".join(gathered)
            gathered, size = [], 0
        if not gathered:
            subscription.delivered(page.last)


def describe_stream() -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a stream for the OpenAPI document."""
    envelope = {"$ref": "#/components/schemas/EventEnvelope"}
    return {
        200: {
            "description": "The events. As SSE each has its sequence as `id` and its envelope as"
            " `data`, without an `event` field; as NDJSON each is a line.",
            "content": {SSE: {"schema": envelope}, NDJSON: {"schema": envelope}},
        },
        204: {"description": "The run has ended, and nothing is left after the cursor."},
    }
