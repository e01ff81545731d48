"""Readers without a cursor: one position a run, held by one reader at a time."""

import asyncio

import httpx
import pytest

from tests.support.calls import answer, run, start, start_asker, wait_question
from tests.support.problems import problem_of
from tests.support.streams import iterate_frames, read_frames, shared_reader, take
from tests.support.waiting import until


async def test_the_first_reader_begins_with_the_first_event(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "counter", count=3))["handler_id"]
    response = await client.get(f"/events/{handler_id}")
    everything = await client.get(f"/events/{handler_id}", params={"after_sequence": -1})
    assert response.text == everything.text


async def test_a_run_that_was_read_to_its_end_is_204(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "counter", count=3))["handler_id"]
    await client.get(f"/events/{handler_id}")
    response = await client.get(f"/events/{handler_id}")
    assert (response.status_code, response.content) == (204, b"")


async def test_the_next_reader_continues_after_the_last_event_that_was_sent(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client, questions=2)
    async with shared_reader(client, handler_id) as first:
        seen = [await anext(first)]
    await answer(client, handler_id, "one")
    await wait_question(client, handler_id, "2")
    async with shared_reader(client, handler_id) as second:
        seen.append(await anext(second))
        await answer(client, handler_id, "two")
        seen.append(await anext(second))
    assert seen == await read_frames(client, handler_id)


async def test_another_reader_gets_409_after_its_timeout(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    async with shared_reader(client, handler_id):
        response = await client.get(f"/events/{handler_id}", params={"acquire_timeout": 0.01})
    assert problem_of(response) == (409, "stream_taken")


async def test_a_timeout_of_zero_asks_once(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    async with shared_reader(client, handler_id):
        taken = await client.get(f"/events/{handler_id}", params={"acquire_timeout": 0})
    assert problem_of(taken) == (409, "stream_taken")


async def test_a_free_position_is_taken_with_a_timeout_of_zero(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "counter", count=1))["handler_id"]
    response = await client.get(f"/events/{handler_id}", params={"acquire_timeout": 0})
    assert response.status_code == 200


async def test_a_reader_that_waits_gets_the_position_when_the_other_disconnects(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client)
    async with shared_reader(client, handler_id) as first:
        question = await anext(first)
        waiting = asyncio.create_task(
            client.get(f"/events/{handler_id}", params={"acquire_timeout": 60})
        )
    await answer(client, handler_id, "yes")
    response = await waiting
    assert response.status_code == 200
    assert question.type == "Question"
    assert response.text.count("data: ") == 1


async def test_the_position_is_free_after_a_disconnect(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    for _ in range(3):
        async with shared_reader(client, handler_id, acquire_timeout=60):
            pass
    async with shared_reader(client, handler_id, acquire_timeout=60) as reader:
        await answer(client, handler_id, "yes")
        frames = [frame async for frame in reader]
    assert frames[-1].type == "StopEvent"


async def test_readers_with_a_cursor_do_not_need_the_position(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    async with shared_reader(client, handler_id):
        [frame] = await take(client, handler_id, 1)
    assert frame.type == "Question"


async def test_readers_with_a_cursor_do_not_move_the_position(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "counter", count=3))["handler_id"]
    everything = await read_frames(client, handler_id)
    async with shared_reader(client, handler_id) as reader:
        frames = [frame async for frame in reader]
    assert frames == everything


async def test_each_run_of_a_handler_has_its_own_position(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await client.post("/workflows/counter/run", json={"handler_id": "h"})
        everything = await read_frames(client, "h")
        async with shared_reader(client, "h") as reader:
            assert [frame async for frame in reader] == everything


async def test_of_many_readers_one_holds_the_position(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    async with shared_reader(client, handler_id):
        responses = await asyncio.gather(
            *(
                client.get(f"/events/{handler_id}", params={"acquire_timeout": 0.01})
                for _ in range(10)
            )
        )
    assert [response.status_code for response in responses] == [409] * 10


async def test_a_reader_that_gave_up_waiting_leaves_the_position_alone(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client)
    async with shared_reader(client, handler_id) as reader:
        waiting = asyncio.create_task(
            client.get(f"/events/{handler_id}", params={"acquire_timeout": 60})
        )
        await asyncio.wait({waiting}, timeout=0)
        waiting.cancel()
        await asyncio.wait({waiting})
        await answer(client, handler_id, "yes")
        frames = [frame async for frame in reader]
    assert [frame.type for frame in frames] == ["Question", "StopEvent"]


@pytest.mark.parametrize("sse", ["true", "false"])
async def test_both_formats_share_the_position(client: httpx.AsyncClient, sse: str) -> None:
    handler_id = (await run(client, "counter", count=3))["handler_id"]
    await client.get(f"/events/{handler_id}", params={"sse": sse})
    response = await client.get(f"/events/{handler_id}")
    assert response.status_code == 204


async def test_the_position_moves_past_hidden_events(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "counter", count=3))["handler_id"]
    await client.get(f"/events/{handler_id}")
    response = await client.get(f"/events/{handler_id}", params={"include_internal": True})
    assert response.status_code == 204


async def test_a_reader_that_takes_over_misses_nothing(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "asker", questions=10)
    seen = []
    for number in range(10):
        async with client.stream(
            "GET", f"/events/{handler_id}", params={"acquire_timeout": 60}
        ) as response:
            seen.append((await anext(iterate_frames(response))).value)
        await answer(client, handler_id, str(number))
    assert seen == [{"prompt": str(number + 1)} for number in range(10)]


async def test_the_position_is_let_go_when_the_run_ends(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    async with shared_reader(client, handler_id) as reader:
        await client.post(f"/handlers/{handler_id}/cancel")
        types = [frame.type async for frame in reader]

        async def consumed() -> bool:
            response = await client.get(f"/events/{handler_id}", params={"acquire_timeout": 60})
            return response.status_code == 204

        await until(consumed)
    assert types == ["Question", "WorkflowCancelledEvent"]
