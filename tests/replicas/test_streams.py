"""Streams of runs that change servers: no event is missed, and none comes twice."""

import asyncio
from contextlib import AsyncExitStack

import httpx

from tests.replicas.serving import has_readers, member, members
from tests.support.calls import answer, start, start_asker, wait_ended
from tests.support.streams import Frame, read_frames, read_until
from tests.support.waiting import until


async def read_on(client: httpx.AsyncClient, handler_id: str) -> list[Frame]:
    """Return all events of a stream, of which the first ones were read at once."""
    return await read_frames(client, handler_id, include_internal=True)


def check_whole(read: list[Frame]) -> None:
    assert [frame.sequence for frame in read] == list(range(len(read)))


async def test_a_reader_stays_when_the_owner_stops_and_a_third_server_goes_on(url: str) -> None:
    async with members(url) as (reader, third), AsyncExitStack() as stack:
        owner = await stack.enter_async_context(member(url))
        handler_id = await start_asker(owner.client, questions=2)
        reading = asyncio.create_task(read_on(reader.client, handler_id))
        await until(lambda: has_readers(reader, 1))
        await stack.aclose()
        await answer(third.client, handler_id, "a")
        await answer(third.client, handler_id, "b")
        read = await reading
        handler = await wait_ended(reader.client, handler_id)
        assert read == await read_on(third.client, handler_id)
    check_whole(read)
    assert handler["result"]["value"] == {"result": ["a", "b"]}


async def test_a_reader_stays_when_its_own_server_goes_on_with_the_run(url: str) -> None:
    async with members(url, 1) as (reader,), AsyncExitStack() as stack:
        owner = await stack.enter_async_context(member(url))
        handler_id = await start_asker(owner.client, questions=2)
        reading = asyncio.create_task(read_on(reader.client, handler_id))
        await until(lambda: has_readers(reader, 1))
        await stack.aclose()
        await answer(reader.client, handler_id, "a")
        await answer(reader.client, handler_id, "b")
        check_whole(await reading)


async def test_readers_at_all_servers_follow_a_run_that_goes_to_and_fro(url: str) -> None:
    """With no time to wait in memory, each answer is taken by whoever gets it."""
    async with members(url, 3, idle_timeout=0.0) as servers:
        handler_id = await start_asker(servers[0].client, questions=6)
        reading = [asyncio.create_task(read_on(server.client, handler_id)) for server in servers]
        for number in range(6):
            at = servers[number % 3]
            await read_until(
                at.client,
                handler_id,
                lambda frame, number=number: frame.value.get("prompt") == str(number + 1),  # type: ignore[misc]  # bound at once
            )
            response = await answer(at.client, handler_id, str(number))
            assert response.status_code == 200, response.text
        first, *others = await asyncio.gather(*reading)
    check_whole(first)
    assert others == [first, first]
    assert first[-1].value == {"result": [str(number) for number in range(6)]}


async def test_a_reader_of_nothing_leaves_no_stream_behind(url: str) -> None:
    async with members(url) as (owner, reader):
        handler_id = await start(owner.client, "sleeper")
        await read_until(reader.client, handler_id, lambda _frame: True)
        await until(lambda: not reader.exchange.feeds.count)
        await until(lambda: has_readers(reader, 0))


async def test_many_readers_at_one_server_take_one_stream(url: str) -> None:
    async with members(url) as (owner, reader):
        handler_id = await start_asker(owner.client)
        reading = [asyncio.create_task(read_on(reader.client, handler_id)) for _ in range(20)]
        await until(lambda: has_readers(reader, 20))
        assert reader.exchange.feeds.count == 1
        await answer(owner.client, handler_id, "a")
        first, *others = await asyncio.gather(*reading)
    check_whole(first)
    assert others == [first] * 19
