"""However a stream is cut on its way, every reader finds the events that were framed."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st
from workflows.events import Event

from tests.properties.values import SETTINGS, json_like, text
from workflow_server.app.engine.codec import encode_event
from workflow_server.app.streams.tail import Page
from workflow_server.routers.streaming import HEARTBEAT, StreamFormat
from workflow_server.schemas.records import EventRecord
from workflow_server.schemas.times import from_micros

Framed = list[tuple[int, dict[str, Any]]]


class Carrier(Event):
    payload: Any = None


envelopes = st.builds(Carrier, payload=json_like(text)).map(encode_event)
events = st.lists(st.tuples(envelopes, st.booleans()), max_size=5)


def make_page(events: list[tuple[bytes, bool]], first: int) -> Page:
    records = [
        EventRecord("run", first + index, envelope, internal, first + index)
        for index, (envelope, internal) in enumerate(events)
    ]
    return Page(records)


def framed(stream_format: StreamFormat, page: Page) -> bytes:
    """Return the frames of a page as one piece."""
    return b"".join(stream_format.frames(page))


def shown_by(stream_format: StreamFormat, page: Page) -> Framed:
    """Return what a reader must find."""
    shown: Framed = []
    for event in page.events:
        envelope = json.loads(event.envelope)
        if not stream_format.include_qualified_name:
            envelope["qualified_name"] = None
        if stream_format.include_emitted_at:
            envelope["emitted_at"] = from_micros(event.sequence).isoformat()
        if stream_format.include_internal or not event.internal:
            shown.append((event.sequence, envelope))
    return shown


def cut(stream: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """Cut a stream anywhere, in the middle of a character too."""
    start = 0
    for place in sorted({place % (len(stream) + 1) for place in places}):
        yield stream[start:place]
        start = place
    yield stream[start:]


def parse_as_specified(chunks: Iterable[bytes]) -> Framed:
    """Read SSE as the HTML standard says and browsers do."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    stream = "".join(decoder.decode(chunk) for chunk in chunks) + decoder.decode(b"", final=True)
    found: Framed = []
    last_id, data = "", list[str]()
    for line in re.split("\r\n|\n|\r", stream.removeprefix("\ufeff")):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "" if not line and data:
                found.append((int(last_id), json.loads("\n".join(data))))
                data = []
            case "data":
                data.append(value)
            case "id" if "\0" not in value:
                last_id = value
    return found


def parse_as_the_typescript_client(chunks: Iterable[bytes]) -> Framed:
    """Read SSE as the published TypeScript client does, chunk by chunk."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    found: Framed = []
    last_id, buffer = "", ""
    for chunk in chunks:
        buffer += decoder.decode(chunk)
        buffer = buffer.replace("\r\n", "\n").replace("\r", "\n")
        *frames, buffer = buffer.split("\n\n")
        for frame in frames:
            lines = frame.split("\n")
            data = [re.sub(r"^data:\s*", "", line) for line in lines if line.startswith("data:")]
            ids = [re.sub(r"^id:\s*", "", line) for line in lines if line.startswith("id:")]
            last_id = ids[-1] if ids else last_id
            if data:
                found.append((int(last_id), json.loads("\n".join(data))))
    return found


def parse_as_the_python_client(chunks: Iterable[bytes]) -> Framed:
    """Read SSE as the published Python client does, line by line with httpx."""
    found: Framed = []
    current_id = ""
    for line in httpx.Response(200, content=chunks).iter_lines():
        stripped = line.strip()
        if stripped.startswith("id:"):
            current_id = stripped[3:].strip()
        elif stripped.startswith("data:"):
            found.append((int(current_id), json.loads(stripped[5:].strip())))
            current_id = ""
    return found


@SETTINGS
@given(
    events,
    st.integers(0, 10**6),
    st.builds(StreamFormat, st.just(True), *[st.booleans()] * 3),
    st.lists(st.integers(0, 2000), max_size=8),
    st.booleans(),
)
def test_every_client_finds_the_events_of_an_sse_stream(
    events: list[tuple[bytes, bool]],
    first: int,
    stream_format: StreamFormat,
    places: list[int],
    heartbeat: bool,
) -> None:
    page = make_page(events, first)
    stream = HEARTBEAT * heartbeat + framed(stream_format, page) + HEARTBEAT * heartbeat
    shown = shown_by(stream_format, page)
    assert parse_as_specified(cut(stream, places)) == shown
    assert parse_as_the_typescript_client(cut(stream, places)) == shown
    assert parse_as_the_python_client(cut(stream, places)) == shown


@SETTINGS
@given(
    events,
    st.builds(StreamFormat, st.just(False), *[st.booleans()] * 3),
    st.lists(st.integers(0, 2000), max_size=8),
)
def test_each_line_of_an_ndjson_stream_is_an_event(
    events: list[tuple[bytes, bool]], stream_format: StreamFormat, places: list[int]
) -> None:
    page = make_page(events, 0)
    response = httpx.Response(200, content=cut(framed(stream_format, page), places))
    found = [json.loads(line) for line in response.iter_lines()]
    assert found == [envelope for _, envelope in shown_by(stream_format, page)]


@SETTINGS
@given(st.lists(events, max_size=4), st.builds(StreamFormat, *[st.booleans()] * 4))
def test_a_format_frames_a_page_as_it_frames_its_parts(
    pages: list[list[tuple[bytes, bool]]], stream_format: StreamFormat
) -> None:
    whole = make_page([event for page in pages for event in page], 0)
    parts, cursor = b"", 0
    for page in pages:
        parts += framed(stream_format, make_page(page, cursor))
        cursor += len(page)
    assert framed(stream_format, whole) == parts
