"""Clients of a server that others took for dead: what they wait for comes all the same."""

import asyncio

from tests.replicas.joining import bury
from tests.replicas.serving import Member, members
from tests.support.calls import answer, wait_question
from tests.support.streams import read_frames
from tests.support.waiting import until

RUN = {"handler_id": "it", "start_event": {"questions": 2}}


async def is_there(member: Member) -> bool:
    return (await member.client.get("/handlers/it")).status_code == 202


async def test_a_client_that_waits_for_a_run_gets_its_end_from_another_server(url: str) -> None:
    async with members(url) as (fenced, other):
        waiting = asyncio.create_task(
            fenced.client.post("/workflows/asker/run", json=RUN, timeout=None)
        )
        await until(lambda: is_there(other))
        await wait_question(other.client, "it", "1")
        before = fenced.exchange.incarnation
        await bury(url, before)
        await answer(other.client, "it", "a")
        await until(lambda: fenced.exchange.incarnation not in (0, before))
        assert not waiting.done()
        await answer(other.client, "it", "b")
        response = await waiting
        assert (response.status_code, response.json()["result"]["value"]) == (
            200,
            {"result": ["a", "b"]},
        )
        events = await read_frames(fenced.client, "it", include_internal=True)
    assert [frame.sequence for frame in events] == list(range(len(events)))


async def test_an_event_that_comes_while_a_server_joins_anew_is_taken(url: str) -> None:
    async with members(url) as (fenced, other):
        await fenced.client.post("/workflows/asker/run-nowait", json=RUN)
        await wait_question(other.client, "it", "1")
        before = fenced.exchange.incarnation
        await bury(url, before)
        await answer(other.client, "it", "a")
        await until(lambda: fenced.exchange.incarnation != before)

        async def is_answered() -> bool:
            response = await answer(fenced.client, "it", "b")
            if response.status_code == 503:  # it has not joined yet, and nothing was done
                assert response.json()["code"] != "outcome_unknown"
                return False
            assert (response.status_code, response.json()) == (200, {"status": "sent"})
            return True

        await until(is_answered)
        handler = (await other.client.get("/handlers/it")).json()
        events = await read_frames(other.client, "it")
    assert handler["run_id"]
    assert events[-1].value == {"result": ["a", "b"]}
