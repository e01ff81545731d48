"""Readers that are many, slow, late or gone: no gap, no duplicate, no reorder, nothing left."""

import asyncio
import re
from collections.abc import Callable

import httpx

from tests.support.calls import answer, run, start, start_asker, wait_ended
from tests.support.sockets import read_stream
from tests.support.streams import Frame, read_frames, read_until, shared_reader
from tests.support.waiting import until
from workflow_server.app.streams.subscription import STORE_PAGE_EVENTS
from workflow_server.app.streams.tail import TAIL_EVENTS

EVENTS = 5_000
PADDING = 300  # bytes an event: more in all than a run's tail holds
PATIENT = httpx.Timeout(60)


def at_least(sequence: int) -> Callable[[Frame], bool]:
    """Return whether an event has this sequence or a later one."""
    return lambda frame: frame.sequence >= sequence


async def read_numbers(client: httpx.AsyncClient, handler_id: str) -> list[int]:
    """Return the numbers that a reader of `counter` was sent."""
    frames = await read_frames(client, handler_id)
    return [frame.value["number"] for frame in frames if frame.type == "Number"]


async def read_rest(client: httpx.AsyncClient, handler_id: str, after: int) -> list[int]:
    """Return the sequences that a reader with a cursor was sent."""
    frames = await read_frames(client, handler_id, after_sequence=after)
    return [frame.sequence for frame in frames]


async def test_twenty_readers_of_a_burst_each_get_every_event_once_and_in_order(
    client: httpx.AsyncClient,
) -> None:
    client.timeout = PATIENT
    handler_id = await start(client, "counter", count=EVENTS, padding=PADDING)
    streams = await asyncio.gather(*(read_numbers(client, handler_id) for _ in range(20)))
    assert EVENTS > TAIL_EVENTS > STORE_PAGE_EVENTS
    assert [numbers == list(range(EVENTS)) for numbers in streams] == [True] * 20


async def test_a_reader_of_the_store_gets_every_event_once_and_in_order(
    client: httpx.AsyncClient,
) -> None:
    client.timeout = PATIENT
    handler_id = (await run(client, "counter", count=EVENTS, padding=PADDING))["handler_id"]
    assert await read_numbers(client, handler_id) == list(range(EVENTS))


async def test_readers_that_come_in_the_middle_of_a_burst_miss_nothing(
    client: httpx.AsyncClient,
) -> None:
    client.timeout = PATIENT
    handler_id = await start(client, "counter", count=EVENTS, padding=PADDING)
    cursors = [-1, 1, 100, 1_000, 3_000]
    readers = []
    for cursor in cursors:
        await read_until(client, handler_id, at_least(cursor))
        readers.append(asyncio.create_task(read_rest(client, handler_id, cursor)))
    everything = await read_rest(client, handler_id, -1)
    rests = await asyncio.gather(*readers)
    assert rests == [[sequence for sequence in everything if sequence > at] for at in cursors]


async def test_a_reader_that_disconnects_again_and_again_misses_nothing(
    client: httpx.AsyncClient,
) -> None:
    client.timeout = PATIENT
    handler_id = await start(client, "counter", count=1_000, padding=PADDING)
    sequences: list[int] = []
    while not sequences or sequences[-1] < 900:
        last = sequences[-1] if sequences else -1
        frames = await read_until(client, handler_id, at_least(last + 90), after_sequence=last)
        sequences += [frame.sequence for frame in frames]
    sequences += await read_rest(client, handler_id, sequences[-1])
    assert sequences == await read_rest(client, handler_id, -1)


async def test_a_slow_reader_gets_every_event_and_holds_nobody_up(
    client: httpx.AsyncClient,
) -> None:
    client.timeout = PATIENT
    handler_id = await start(client, "counter", count=EVENTS, padding=2_000)
    async with read_stream(client, handler_id, "after_sequence=-1") as slow:
        await slow.read_head()
        handler = await wait_ended(client, handler_id)
        body = await slow.reader.read(-1)
    ids = [int(match) for match in re.findall(rb"^id: (\d+)$", body, re.MULTILINE)]
    assert handler["status"] == "completed"
    assert ids == await read_rest(client, handler_id, -1)


async def test_readers_that_vanish_hold_nobody_up(client: httpx.AsyncClient) -> None:
    client.timeout = PATIENT
    handler_id = await start(client, "counter", count=EVENTS, padding=PADDING)
    for _ in range(50):
        async with read_stream(client, handler_id, "after_sequence=-1") as vanishing:
            await vanishing.read_head()
    assert await read_numbers(client, handler_id) == list(range(EVENTS))


async def test_a_shared_reader_that_vanishes_in_a_burst_loses_nothing_for_the_next(
    client: httpx.AsyncClient,
) -> None:
    client.timeout = PATIENT
    handler_id = await start(client, "counter", count=EVENTS, padding=PADDING)
    async with shared_reader(client, handler_id) as first:
        seen = [(await anext(first)).sequence for _ in range(100)]
    async with shared_reader(client, handler_id, acquire_timeout=60) as second:
        rest = [frame.sequence async for frame in second]
    everything = await read_rest(client, handler_id, -1)
    assert [*seen, *rest] == sorted({*seen, *rest})
    assert everything[: len(seen)] == seen
    assert everything[-len(rest) :] == rest


async def connect_and_vanish(client: httpx.AsyncClient, handler_id: str, query: str) -> None:
    """Open a stream, read its head, and vanish."""
    async with read_stream(client, handler_id, query) as reader:
        assert await reader.read_status() in (200, 409)


async def test_no_task_is_left_after_a_thousand_connects_and_disconnects(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client)
    queries = ["after_sequence=-1", "after_sequence=now", "sse=false&after_sequence=-1", ""]
    for query in queries:
        await connect_and_vanish(client, handler_id, f"{query}&acquire_timeout=60")
    before = await count_tasks_when_quiet()
    for _ in range(25):
        await asyncio.gather(
            *(
                connect_and_vanish(client, handler_id, f"{query}&acquire_timeout=0")
                for query in queries * 10
            )
        )
    await until(lambda: len(asyncio.all_tasks()) <= before)
    await answer(client, handler_id, "yes")
    assert (await wait_ended(client, handler_id))["status"] == "completed"


async def count_tasks_when_quiet() -> int:
    """Return how many tasks there are, once no request is being answered."""
    await until(lambda: not [task for task in asyncio.all_tasks() if "run_asgi" in repr(task)])
    return len(asyncio.all_tasks())
