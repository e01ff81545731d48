"""Pages of events to the bytes of a stream.

The frames of a page are made once for all readers of a format, and many of them go out in one
write. sse-starlette makes the head of a stream of Server-Sent Events and the frames without an
event. It does not send them: it would in three tasks, and its pings do not wait for silence.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

from fastapi.responses import Response, StreamingResponse
from pydantic_core import from_json
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from workflow_server.app.engine.codec import find_tail, with_emission, without_qualified_name
from workflow_server.app.streams.subscription import Subscription
from workflow_server.app.streams.tail import Page
from workflow_server.routers.dependencies import Confirm
from workflow_server.routers.large_answers import SMALL, cut_off
from workflow_server.routers.large_pages import LOOK, LargePages
from workflow_server.schemas.records import EventRecord

WRITE_BYTES = 64 * 1024
HEARTBEAT = ServerSentEvent(comment="heartbeat", sep="\n").encode()
# In milliseconds; sent to readers whose server stops.
RECONNECT = ServerSentEvent(retry=1000, sep="\n").encode()
CONFIRM_INTERVAL = 25.0  # seconds after which a silent reader's credential is looked at again
VARY = {"Vary": "Accept"}
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **VARY}
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
STREAM_DESCRIPTION = """\
The events, in order, up to the run's last one; with it the stream ends. The schema is that of one
event.

`text/event-stream`: each event is a frame of two lines, `id: SEQUENCE` and `data: ENVELOPE`, and
an empty line; there is no `event:` line. Numbers that are missing are those of internal events,
which are not shown. When nothing was sent for the heartbeat interval (25
seconds, if the operator has not changed it) a comment is sent, `: heartbeat`. When the server
stops, `retry: 1000` tells readers to come back with the last `id` that they saw.

`application/x-ndjson` (`sse=false`, or an `Accept` that prefers it): each line is an envelope,
without its sequence, and there are no heartbeats.

With `include_emitted_at` each envelope has one more member at its end, `emitted_at`: when the run
emitted the event, in ISO 8601, UTC; null for events of which older releases did not keep it.

If the stream breaks off before the run has ended, read on after the last `id`.
"""
# What the example `tokens` really gave, by sequence; a test runs it again and compares. The others
# are internal events of the engine.
_ENVELOPES = {
    1: '{"value":{"text":"Durable"},"type":"Token","types":null,'
    '"qualified_name":"examples.tokens.Token"}',
    2: '{"value":{"text":"first"},"type":"Token","types":null,'
    '"qualified_name":"examples.tokens.Token"}',
    4: '{"value":{"tokens":2},"type":"Recited","types":["StopEvent"],'
    '"qualified_name":"examples.tokens.Recited"}',
}
STREAM_EXAMPLES = {
    SSE: "".join(f"id: {number}\ndata: {line}\n\n" for number, line in _ENVELOPES.items()),
    NDJSON: "".join(f"{line}\n" for line in _ENVELOPES.values()),
}


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """The format of a stream: the framing of events, and which of them are shown."""

    sse: bool
    include_internal: bool
    include_qualified_name: bool
    include_emitted_at: bool

    def frames(self, page: Page) -> Iterable[bytes]:
        """Return the frames of a page, in pieces of `WRITE_BYTES` or a little more.

        Those of a large page are made as they are taken, and not kept.
        """
        if page.size > SMALL:
            return self._make(page)
        pieces = page.frames.get(self)
        if pieces is None:
            frames = [self._frame(event) for event in page.events if self._shows(event)]
            pieces = page.frames[self] = list(_gather(frames))
        return pieces

    def _shows(self, event: EventRecord) -> bool:
        return self.include_internal or not event.internal

    def _frame(self, event: EventRecord) -> bytes:
        envelope = self._dress(event.envelope, event)
        if self.sse:
            # `ServerSentEvent` takes 16 times as long, and 150 times for 64 KiB.
            return b"".join((b"id: %d\ndata: " % event.sequence, envelope, b"\n\n"))
        return envelope + b"\n"

    def _make(self, page: Page) -> Iterator[bytes]:
        for event in page.events:
            if not self._shows(event):
                continue
            envelope = event.envelope
            if len(envelope) <= WRITE_BYTES:
                yield self._frame(event)
                continue
            tail = find_tail(envelope)
            if self.sse:
                yield b"id: %d\ndata: " % event.sequence
            for start in range(0, tail, WRITE_BYTES):
                yield envelope[start : min(tail, start + WRITE_BYTES)]
            yield self._dress(envelope[tail:], event) + (b"\n\n" if self.sse else b"\n")

    def _dress(self, envelope: bytes, event: EventRecord) -> bytes:
        """Return an envelope, or its tail, with the members at its end that are asked for."""
        if not self.include_qualified_name:
            envelope = without_qualified_name(envelope)
        if self.include_emitted_at:
            envelope = with_emission(envelope, event.emitted_at)
        return envelope


def stream_response(
    subscription: Subscription,
    stream_format: StreamFormat,
    large_pages: LargePages,
    *,
    heartbeat: float | None,
    confirm: Confirm | None,
) -> Response:
    """Return the stream of a subscription, which it closes at its end.

    Where there is a `confirm`, the stream also ends when that says that the reader may not go on.
    """
    heartbeat = heartbeat if stream_format.sse else None
    body = _frames(subscription, stream_format, large_pages, heartbeat=heartbeat, confirm=confirm)
    return _InOneTask(_make_head(stream_format, body), body, subscription, large_pages)


def stream_head(stream_format: StreamFormat) -> Response:
    """Return the head of a stream, and nothing of its body."""
    head = Response()
    head.raw_headers = _keep_headers(_make_head(stream_format, _nothing()))
    return head


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield  # what makes it a generator


def _make_head(stream_format: StreamFormat, body: AsyncGenerator[bytes, None]) -> Response:
    if stream_format.sse:
        return EventSourceResponse(body, headers=VARY)
    return StreamingResponse(body, media_type=NDJSON, headers=HEADERS)


def _keep_headers(head: Response) -> list[tuple[bytes, bytes]]:
    """Return all but `Connection`, of which the server beneath speaks: it may close."""
    return [item for item in head.raw_headers if item[0] != b"connection"]


class _InOneTask(Response):
    """Sends the head of another response, and a body as it comes, until the client hangs up.

    It closes the subscription: a body that has not begun is closed without a step of it.

    It takes one task beside the request's own, where sse-starlette takes three and a group of
    them: half as much memory again for a quiet stream.
    """

    def __init__(
        self,
        head: Response,
        body: AsyncGenerator[bytes, None],
        subscription: Subscription,
        large_pages: LargePages,
    ) -> None:
        super().__init__(status_code=head.status_code)
        self.raw_headers = _keep_headers(head)
        self._body = body
        self._subscription = subscription
        self._large_pages = large_pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watcher = asyncio.create_task(wait_for_hang_up(receive), name="hang-up")
        connected = asyncio.timeout(None)
        watcher.add_done_callback(partial(leave, connected))
        try:
            async with connected:
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status_code,
                        "headers": self.raw_headers,
                    }
                )
                async for piece in self._body:
                    sending = send({"type": "http.response.body", "body": piece, "more_body": True})
                    del piece  # it may be large, and the next one a long time off
                    if not await self._large_pages.in_time(sending):
                        cut_off(scope)  # It reads on by its cursor.
                        return
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            if not connected.expired():
                raise
        finally:
            watcher.cancel()
            self._large_pages.leave()
            self._subscription.close()
            await self._body.aclose()


async def wait_for_hang_up(receive: Receive) -> None:
    """Return once the client has hung up; nothing of what it sends is kept."""
    while (await receive())["type"] != "http.disconnect":
        pass


def leave(connected: asyncio.Timeout, watcher: asyncio.Task[None]) -> None:
    """End what is done for a client that hung up, unless it has just ended by itself."""
    if not watcher.cancelled():
        with suppress(RuntimeError):
            connected.reschedule(0)


async def _frames(
    subscription: Subscription,
    stream_format: StreamFormat,
    large_pages: LargePages,
    *,
    heartbeat: float | None,
    confirm: Confirm | None,
) -> AsyncGenerator[bytes, None]:
    timeout = heartbeat or (CONFIRM_INTERVAL if confirm is not None else None)
    subscription.open()
    while not subscription.exhausted:
        pages = await _next_pages(subscription, large_pages, timeout)
        if confirm is not None and not await confirm():
            return
        if not pages and heartbeat and not subscription.exhausted:
            yield HEARTBEAT
        for frames in _writes(pages, subscription, stream_format):
            yield frames
            del frames
        del pages
        if large_pages.has_slot:
            large_pages.leave()
    if subscription.dismissed and stream_format.sse:
        yield RECONNECT


async def _next_pages(
    subscription: Subscription, large_pages: LargePages, timeout: float | None
) -> list[Page]:
    """Return the next pages, large ones with a slot; none after `timeout` seconds.

    While the slot is waited for, they are not in memory: they are read again.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + timeout if timeout else inf
    while not subscription.exhausted:
        if large_pages.is_waiting:
            if clock() >= until:
                return []
            await large_pages.wait(min(LOOK, until - clock()))
            continue
        cursor = subscription.cursor
        pages = await subscription.next_pages(timeout=timeout)
        if large_pages.enter(sum([page.size for page in pages])):
            return pages
        del pages
        subscription.go_back(cursor)
    return []


def _writes(
    pages: list[Page], subscription: Subscription, stream_format: StreamFormat
) -> Iterator[bytes]:
    """Yield the frames of some pages in writes of about `WRITE_BYTES`."""
    gathered: list[bytes] = []
    size = 0
    for page in pages:
        for piece in stream_format.frames(page):
            gathered.append(piece)
            size += len(piece)
            if size >= WRITE_BYTES:
                yield b"".join(gathered)
                gathered, size = [], 0
        if not gathered:
            subscription.delivered(page.last)
    if gathered:
        yield b"".join(gathered)
        subscription.delivered(pages[-1].last)


def _gather(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Yield frames, small ones together and very large ones in pieces.

    Of a piece that a reader does not take its connection keeps a copy.
    """
    gathered: list[bytes] = []
    size = 0
    for frame in frames:
        gathered.append(frame)
        size += len(frame)
        if size >= WRITE_BYTES:
            yield from _cut(b"".join(gathered))
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _cut(frames: bytes) -> Iterator[bytes]:
    if len(frames) <= 2 * WRITE_BYTES:
        yield frames
        return
    for start in range(0, len(frames), WRITE_BYTES):
        yield frames[start : start + WRITE_BYTES]


def describe_stream() -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a stream for the OpenAPI document."""
    last = {"summary": "The last event of a run of `tokens`", "value": from_json(_ENVELOPES[4])}
    event = {
        "schema": {"$ref": "#/components/schemas/EventEnvelope"},
        "examples": {"tokens": last},
    }
    streams = (
        f"A run of `tokens` as `{media_type}`:\n\n```text\n{stream}```\n"
        for media_type, stream in STREAM_EXAMPLES.items()
    )
    return {
        200: {
            "description": "\n".join((STREAM_DESCRIPTION, *streams)),
            "content": {media_type: dict(event) for media_type in STREAM_EXAMPLES},
        },
        204: {"description": "The run has ended, and nothing is left after the cursor."},
    }
