"""Sequences count on over restarts and evictions too, on every store."""

from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from tests.durability.restarts import Restarts, restarting
from tests.support.calls import answer, result_of, start, start_asker, wait_ended, wait_question
from tests.support.inspection import is_evicted
from tests.support.problems import problem_of
from tests.support.streams import Frame, read_frames, read_until
from tests.support.waiting import until
from tests.support.workflows import Asker, Conversation, Sleeper
from workflow_server.app.settings import Limits
from workflow_server.stores.base import Store


async def read_run(client: httpx.AsyncClient, run_id: str | None = None) -> list[Frame]:
    """Return all events of a run of the handler `h`, by default of its last one."""
    query = {"run_id": run_id} if run_id else {}
    return await read_frames(client, "h", include_internal=True, **query)


def check_counted_on(runs: list[list[Frame]]) -> None:
    """Check that the events of runs are numbered from 0, without a gap."""
    numbers = [frame.sequence for run in runs for frame in run]
    assert numbers == [*range(len(numbers))]


async def test_each_run_counts_on_after_a_restart(store: Store) -> None:
    async with restarting(store, it=Conversation()) as restarts:
        run_ids = []
        for _ in range(3):
            await start(restarts.client, "it", "h")
            run_ids.append((await wait_ended(restarts.client, "h"))["run_id"])
            await restarts.restart()
        check_counted_on([await read_run(restarts.client, run_id) for run_id in run_ids])


@pytest.mark.parametrize("idle_timeout", [3600.0, 0.0])
async def test_a_waiting_run_that_is_restored_counts_on(store: Store, idle_timeout: float) -> None:
    options = {"idle_timeout": idle_timeout}
    async with restarting(store, options=options, it=Asker(timeout=None)) as restarts:
        await answer_both(restarts, idle_timeout)
        first = await read_run(restarts.client)
        await answer_both(restarts, idle_timeout, before=["a", "b"])
        check_counted_on([first, await read_run(restarts.client)])


async def answer_both(
    restarts: Restarts, idle_timeout: float, *, before: Sequence[str] = ()
) -> None:
    """Run the handler `h` and answer its questions, the first one after a crash."""
    client = restarts.client
    await start_asker(client, "it", handler_id="h", questions=2)
    [question] = (await client.get("/handlers/h")).json()["questions"]
    if not idle_timeout:
        await until(lambda: is_evicted(restarts.server, "h"))
    await restarts.restart()
    client = restarts.client
    for cursor in (-1, 0):  # one of no run, and one of the first
        seen = await read_until(
            client, "h", lambda frame: frame.type == "Question", after_sequence=cursor
        )
        assert seen[-1].sequence == question["sequence"]
    assert (await answer(client, "h", "a", reply_to=question["sequence"])).status_code == 200
    late = await answer(client, "h", "b", reply_to=question["sequence"])
    assert problem_of(late) == (409, "question_not_open")
    second = await wait_question(client, "h", str(len(before) + 2))
    assert (await answer(client, "h", "b", reply_to=second)).status_code == 200
    assert await result_of(client, "h") == [*before, "a", "b"]


@pytest.fixture
async def queued(store: Store) -> AsyncIterator[tuple[Restarts, list[Frame]]]:
    """Yield servers on which the handler `h` has run and is queued, and the events of its run."""
    options = {"limits": Limits(max_runs=1)}
    workflows = {"it": Asker(timeout=None), "busy": Sleeper(timeout=None)}
    async with restarting(store, options=options, **workflows) as restarts:
        await start_asker(restarts.client, "it", handler_id="h")
        await answer(restarts.client, "h", "one")
        await wait_ended(restarts.client, "h")
        first = await read_run(restarts.client)
        await start(restarts.client, "busy", "busy")
        await start(restarts.client, "it", "h")
        await restarts.restart()
        yield restarts, first


async def test_a_queued_run_counts_on_when_it_begins_after_a_restart(
    queued: tuple[Restarts, list[Frame]],
) -> None:
    restarts, first = queued
    assert (await answer(restarts.client, "h", "two")).status_code == 200
    await restarts.client.post("/handlers/busy/cancel")
    assert await result_of(restarts.client, "h") == ["one", "two"]
    check_counted_on([first, await read_run(restarts.client)])


async def test_a_queued_run_that_never_begins_ends_above_the_run_before(
    queued: tuple[Restarts, list[Frame]],
) -> None:
    restarts, first = queued
    await restarts.client.post("/handlers/h/cancel")
    await wait_ended(restarts.client, "h")
    check_counted_on([first, await read_run(restarts.client)])


async def test_a_queued_run_that_is_held_and_cancelled_ends_above_the_run_before(
    queued: tuple[Restarts, list[Frame]],
) -> None:
    restarts, first = queued
    await restarts.restart(busy=Sleeper(timeout=None))

    async def is_held() -> bool:
        return bool((await restarts.client.get("/handlers/h")).json()["phase"] == "held")

    await until(is_held)
    await restarts.client.post("/handlers/h/cancel")
    check_counted_on([first, await read_run(restarts.client)])
