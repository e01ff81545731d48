"""Any server answers anything: requests by way of a server that does not have the run."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.replicas.serving import Member, has_readers, members
from tests.support.calls import answer, get_status, send, start, start_asker, wait_begun, wait_ended
from tests.support.problems import problem_of
from tests.support.streams import read_frames, read_until, shared_reader, take
from tests.support.waiting import until


@pytest.fixture
async def pair(url: str) -> AsyncIterator[tuple[Member, Member]]:
    """Yield two servers; the first one has the runs that a test starts there."""
    async with members(url) as (owner, other):
        yield owner, other


async def test_an_event_reaches_a_run_of_another_server(pair: tuple[Member, Member]) -> None:
    owner, other = pair
    handler_id = await start_asker(owner.client)
    response = await answer(other.client, handler_id, "yes")
    assert (response.status_code, response.json()) == (200, {"status": "sent"})
    assert (await wait_ended(other.client, handler_id))["result"]["value"] == {"result": ["yes"]}


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ({"type": "Unknown", "value": {}}, {}),
        ({"type": "Answer", "value": {}}, {}),
        ({"type": "Answer", "value": {"text": "yes"}}, {"step": "no-such-step"}),
        ({"type": "Answer", "value": {"text": "yes"}}, {"reply_to": 4}),
        ({"type": "Answer", "value": {"text": "yes"}}, {"run_id": "another"}),
        ("{", {}),
    ],
)
async def test_what_is_refused_is_refused_alike_by_way_of_another_server(
    pair: tuple[Member, Member], event: object, body: dict[str, object]
) -> None:
    owner, other = pair
    handler_id = await start_asker(owner.client)
    request = {"event": event, **body}
    there = await owner.client.post(f"/events/{handler_id}", json=request)
    here = await other.client.post(f"/events/{handler_id}", json=request)
    assert 400 <= here.status_code < 500
    assert (here.status_code, here.json()) == (there.status_code, there.json())


async def test_a_question_takes_one_of_many_answers_at_two_servers(
    pair: tuple[Member, Member],
) -> None:
    owner, other = pair
    handler_id = await start_asker(owner.client)
    (question,) = await read_until(
        owner.client, handler_id, lambda frame: frame.type == "Question", include_internal=False
    )
    clients = [owner.client, other.client] * 5
    responses = await asyncio.gather(
        *(answer(client, handler_id, "yes", reply_to=question.sequence) for client in clients)
    )
    assert sorted(response.status_code for response in responses) == [200] + [409] * 9


async def test_a_run_is_cancelled_by_way_of_another_server(pair: tuple[Member, Member]) -> None:
    owner, other = pair
    handler_id = await start(owner.client, "sleeper")
    await wait_begun(owner.client, handler_id)
    response = await other.client.post(f"/handlers/{handler_id}/cancel")
    assert (response.status_code, response.json()) == (200, {"status": "cancelled"})
    for client in (owner.client, other.client):
        assert await get_status(client, handler_id) == "cancelled"
    again = await other.client.post(f"/handlers/{handler_id}/cancel")
    assert problem_of(again) == (404, "handler_ended")


async def test_a_run_is_purged_by_way_of_another_server(pair: tuple[Member, Member]) -> None:
    owner, other = pair
    handler_id = await start(owner.client, "sleeper")
    await wait_begun(owner.client, handler_id)
    response = await other.client.post(f"/handlers/{handler_id}/cancel", params={"purge": True})
    assert (response.status_code, response.json()) == (200, {"status": "deleted"})
    for client in (owner.client, other.client):
        assert (await client.get(f"/handlers/{handler_id}")).status_code == 404


async def test_an_ended_run_is_purged_everywhere(pair: tuple[Member, Member]) -> None:
    owner, other = pair
    handler_id = (await owner.client.post("/workflows/echo/run", json={})).json()["handler_id"]
    await other.client.post(f"/handlers/{handler_id}/cancel", params={"purge": True})
    assert (await owner.client.get(f"/handlers/{handler_id}")).status_code == 404
    assert (await owner.client.get(f"/events/{handler_id}")).status_code == 404


async def test_a_handler_that_runs_again_elsewhere_is_told_as_it_is_now(
    pair: tuple[Member, Member],
) -> None:
    owner, other = pair
    handler_id = await start_asker(owner.client)
    await answer(owner.client, handler_id, "first")
    first = await wait_ended(owner.client, handler_id)
    await start(other.client, "asker", handler_id)
    handler = (await owner.client.get(f"/handlers/{handler_id}")).json()
    assert (handler["status"], handler["run_id"] == first["run_id"]) == ("running", False)
    await answer(owner.client, handler_id, "second")
    handler = await wait_ended(owner.client, handler_id)
    assert handler["result"]["value"] == {"result": ["first", "second"]}


async def test_an_id_in_use_at_another_server_is_a_conflict(pair: tuple[Member, Member]) -> None:
    owner, other = pair
    handler_id = await start_asker(owner.client)
    response = await other.client.post(
        "/workflows/asker/run-nowait", json={"handler_id": handler_id}
    )
    assert problem_of(response) == (409, "handler_running")


async def test_a_stream_is_read_through_another_server_as_at_the_owner(
    pair: tuple[Member, Member],
) -> None:
    owner, other = pair
    handler_id = await start_asker(owner.client, questions=3)
    reading = [
        asyncio.create_task(read_frames(other.client, handler_id, include_internal=True))
        for _ in range(3)
    ]
    for text in "abc":
        await read_until(other.client, handler_id, lambda frame: frame.type == "Question")
        await answer(other.client, handler_id, text)
    read = await asyncio.gather(*reading)
    told = await read_frames(owner.client, handler_id, include_internal=True)
    assert read == [told, told, told]
    assert [frame.sequence for frame in told] == list(range(len(told)))


async def test_large_events_are_read_through_another_server(pair: tuple[Member, Member]) -> None:
    owner, other = pair
    handler_id = await start(owner.client, "counter", count=40, padding=300_000)
    read = await read_frames(other.client, handler_id)
    assert read == await read_frames(owner.client, handler_id)
    assert len(read) == 41


async def test_now_begins_after_what_the_owner_has_committed(pair: tuple[Member, Member]) -> None:
    owner, other = pair
    handler_id = await start_asker(owner.client, questions=2)
    reading = asyncio.create_task(take(other.client, handler_id, 1, after_sequence="now"))
    await until(lambda: has_readers(other, 1))
    await answer(owner.client, handler_id, "a")
    (frame,) = await reading
    assert frame.value == {"prompt": "2"}


async def test_readers_without_a_cursor_share_one_position_over_all_servers(
    pair: tuple[Member, Member],
) -> None:
    owner, other = pair
    handler_id = await start_asker(owner.client, questions=3)
    async with shared_reader(other.client, handler_id) as frames:
        first = await anext(frames)
        taken = await owner.client.get(f"/events/{handler_id}", params={"acquire_timeout": 0})
        assert problem_of(taken) == (409, "stream_taken")
        taken = await other.client.get(f"/events/{handler_id}", params={"acquire_timeout": 0})
        assert problem_of(taken) == (409, "stream_taken")
    await send(other.client, handler_id, "Answer", {"text": "a"})
    query = {"acquire_timeout": 60}
    async with shared_reader(owner.client, handler_id, **query) as frames:
        second = await anext(frames)
    await send(other.client, handler_id, "Answer", {"text": "b"})
    async with shared_reader(other.client, handler_id, **query) as frames:
        third = await anext(frames)
    assert [frame.value["prompt"] for frame in (first, second, third)] == ["1", "2", "3"]
