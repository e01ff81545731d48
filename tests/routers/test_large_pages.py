"""Streams of large events: a few at a time, whoever does not read them."""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import pytest

from tests.routers.test_large_answers import make_ended
from tests.support.live import open_client
from tests.support.records import NOON, batch_of, make_record
from tests.support.sockets import Connection, read_stream
from tests.support.waiting import until
from workflow_server.app.handlers.paging import LARGE_PAGES
from workflow_server.app.server import WorkflowServer
from workflow_server.app.streams.tail import Page
from workflow_server.routers.large_answers import SMALL
from workflow_server.routers.streaming import HEARTBEAT, StreamFormat
from workflow_server.schemas.records import Batch, EventRecord
from workflow_server.stores.memory import MemoryStore

ENVELOPE = b'{"value":{"result":"%b"},"type":"StopEvent","types":null,"qualified_name":"x.Y"}'
LARGE, LITTLE = ENVELOPE % (b"x" * 9_000_000), ENVELOPE % b"x"
MICROS = int(NOON.timestamp() * 1_000_000)
QUERY = "after_sequence=-1"


def make_batch(name: str, *envelopes: bytes) -> Batch:
    """Return a completed run with these events."""
    events = [
        EventRecord(name, number, envelope, internal=False, emitted_at=MICROS)
        for number, envelope in enumerate(envelopes)
    ]
    record = replace(make_ended(name, b"null"), event_count=len(events))
    return replace(batch_of(record), events=events)


async def read_beginning(reader: Connection) -> bytes:
    """Return the first bytes of a stream."""
    await reader.read_head()
    return await reader.reader.readexactly(4)


async def test_a_stream_that_takes_nothing_of_a_large_event_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workflow_server.routers.large_pages.STALLED", 1.0)
    store = MemoryStore()
    async with (
        open_client(WorkflowServer(workflow_store=store), own_connections=True) as client,
        AsyncExitStack() as stack,
    ):
        await store.commit(make_batch("h", LARGE, LITTLE))
        stuck = [
            await stack.enter_async_context(read_stream(client, "h", QUERY))
            for _ in range(LARGE_PAGES)
        ]
        await asyncio.gather(*map(read_beginning, stuck))
        response = await client.get("/events/h", params={"after_sequence": -1})
        assert response.content.endswith(b"\n\nid: 1\ndata: %b\n\n" % LITTLE)
        # Its event is not whole, and it reads on by its cursor.
        with suppress(ConnectionError):
            assert LITTLE not in await stuck[0].reader.read()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_stream_that_takes_a_large_event_too_slowly_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workflow_server.routers.large_pages.STALLED", 1.0)
    monkeypatch.setattr("workflow_server.routers.large_pages.SLOWEST", 1 << 30)
    store = MemoryStore()
    async with (
        open_client(WorkflowServer(workflow_store=store)) as client,
        read_stream(client, "h", QUERY) as reader,
    ):
        await store.commit(make_batch("h", LARGE, LITTLE))
        await reader.read_head()
        taken = 0
        while piece := await reader.reader.read(1 << 16):
            taken += len(piece)
            await asyncio.sleep(0.05)  # each in time, and all of them not
        assert taken < len(LARGE)


async def test_a_stream_waits_for_the_slot_of_a_large_event_and_leaves_the_line() -> None:
    store = MemoryStore()
    server = WorkflowServer(workflow_store=store, sse_heartbeat_interval=0.05)
    slots = server.app.state.services.large_pages
    async with open_client(server) as client:
        await store.commit(make_batch("h", LARGE))
        await store.commit(make_batch("small", *[LITTLE] * 100))
        taken = [slots.take_free() for _ in range(LARGE_PAGES + 1)]
        assert taken[-2:] == [True, False]
        async with read_stream(client, "h", QUERY) as gone, read_stream(client, "h", QUERY) as left:
            await gone.reader.readuntil(HEARTBEAT)
            await left.reader.readuntil(HEARTBEAT)
            small = await client.get("/events/small", params={"after_sequence": -1})
            assert small.text.count("id: ") == 100
            gone.writer.transport.abort()
            await until(lambda: slots.waiting == 1)
            slots.give_back()
            assert len(await left.reader.read()) > len(LARGE)
        await until(slots.take_free)


async def test_a_stream_that_waits_for_a_slot_ends_when_the_server_stops() -> None:
    store = MemoryStore()
    server = WorkflowServer(workflow_store=store)
    slots = server.app.state.services.large_pages
    waiting = replace(make_record("h"), event_count=1)
    event = EventRecord("h", 0, LARGE, internal=False, emitted_at=MICROS)
    async with open_client(server) as client:
        await store.commit(replace(batch_of(waiting), events=[event]))
        while slots.take_free():
            pass
        async with read_stream(client, "h", QUERY) as reader:
            await reader.read_head()
            await until(lambda: slots.waiting == 1)
            await server.stop()
            assert b"retry: 1000\n\n" in await reader.reader.read()
        assert slots.waiting == 0


FORMATS = [
    StreamFormat(sse, True, named, dated)
    for sse in (True, False)
    for named in (True, False)
    for dated in (True, False)
]


@pytest.mark.parametrize("stream_format", FORMATS)
def test_the_frame_of_a_large_event_is_that_of_a_small_one_and_is_not_kept(
    stream_format: StreamFormat,
) -> None:
    filler = b"x" * SMALL
    large = Page([EventRecord("r", 7, ENVELOPE % filler, internal=False, emitted_at=MICROS)])
    small = Page([EventRecord("r", 7, ENVELOPE % b"", internal=False, emitted_at=MICROS)])
    pieces = list(stream_format.frames(large))
    [frame] = stream_format.frames(small)
    assert b"".join(pieces).replace(filler, b"") == frame
    assert max(map(len, pieces)) <= SMALL
    assert not large.frames
