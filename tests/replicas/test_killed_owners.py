"""A server that is killed while others ask it for their clients: nothing is lost or done twice."""

import asyncio
from pathlib import Path

from tests.replicas import asked
from tests.replicas.servers import Server, processes
from tests.support.calls import answer, start_asker, wait_question
from tests.support.streams import read_frames
from tests.support.waiting import until

QUESTIONS = 8
TAKEN = (200, 409)  # the second one where the outcome was unknown, and it was taken


async def answer_question(server: Server, handler_id: str, number: int) -> None:
    """Answer a question of a run, and again for as long as nobody knows whether it was taken."""
    question = await wait_question(server.client, handler_id, str(number + 1))

    async def is_taken() -> bool:
        response = await answer(server.client, handler_id, str(number), reply_to=question)
        assert response.status_code in (*TAKEN, 503), response.text
        return response.status_code in TAKEN

    await until(is_taken)


async def test_a_run_goes_on_for_clients_of_all_servers_when_its_own_is_killed(
    url: str, tmp_path: Path
) -> None:
    async with processes(url, tmp_path, 3, asked.__name__) as (owner, left, right):
        handler_id = await start_asker(owner.client, questions=QUESTIONS)
        reading = [
            asyncio.create_task(read_frames(server.client, handler_id, include_internal=True))
            for server in (left, right)
        ]
        for number in range(QUESTIONS):
            server = (left, right)[number % 2]
            deeds = [answer_question(server, handler_id, number)]
            deeds += [owner.kill() for _ in range(number == QUESTIONS // 2)]
            await asyncio.gather(*deeds)
        first, second = await asyncio.gather(*reading)
    assert [frame.sequence for frame in first] == list(range(len(first)))
    assert first == second
    assert first[-1].value == {"result": [str(number) for number in range(QUESTIONS)]}
