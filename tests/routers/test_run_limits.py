"""How many runs are at work, how many wait for their turn, and which are refused."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.durability.restarts import restarting
from tests.support.calls import (
    answer,
    get_status,
    result_of,
    run,
    send,
    start,
    start_asker,
    wait_begun,
    wait_ended,
    wait_question,
)
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.streams import read_frames, read_until
from tests.support.workflows import Answer, Asker, Number, Question, Sleeper, add_all
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits
from workflow_server.stores.memory import MemoryStore


@asynccontextmanager
async def limited(**limits: int) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server with these limits."""
    server = WorkflowServer(limits=Limits.model_validate(limits))
    add_all(server)
    async with open_client(server) as client:
        yield client


async def post(client: httpx.AsyncClient, workflow: str, handler_id: str) -> httpx.Response:
    """Ask for a run of no fields."""
    return await client.post(f"/workflows/{workflow}/run-nowait", json={"handler_id": handler_id})


async def read_gauge(client: httpx.AsyncClient, name: str) -> int:
    """Return the value of a gauge."""
    lines = (await client.get("/metrics")).text.splitlines()
    prefix = f"workflow_server_{name} "
    return int(float(next(line for line in lines if line.startswith(prefix)).split()[1]))


async def read_phases(client: httpx.AsyncClient) -> dict[str, int]:
    """Return how many runs are in each phase."""
    gauge = re.compile(r'workflow_server_runs\{phase="(\w+)"\} (\S+)')
    found = map(gauge.fullmatch, (await client.get("/metrics")).text.splitlines())
    return {match[1]: int(float(match[2])) for match in found if match}


async def test_a_run_beyond_the_limit_waits_and_begins_when_another_ends() -> None:
    async with limited(max_runs=1) as client:
        await wait_begun(client, await start(client, "sleeper", "first"))
        await start(client, "greeter", "second", name="Ada")
        pending = await read_gauge(client, "runs_pending"), await get_status(client, "second")
        await client.post("/handlers/first/cancel")
        handler = await wait_ended(client, "second")
    assert pending == (1, "running")
    assert handler["result"]["value"] == {"text": "Hello, Ada!"}


async def test_runs_begin_in_the_order_in_which_they_were_accepted() -> None:
    async with limited(max_runs=1) as client:
        await wait_begun(client, await start(client, "sleeper", "first"))
        names = [f"waiting-{number}" for number in range(5)]
        for name in names:
            await start(client, "echo", name)
        await client.post("/handlers/first/cancel")
        handlers = [await wait_ended(client, name) for name in names]
    ends = [handler["completed_at"] for handler in handlers]
    assert ends == sorted(ends)


async def test_a_run_too_many_is_refused_and_leaves_nothing() -> None:
    async with limited(max_runs=1, max_pending_runs=1) as client:
        await start(client, "sleeper", "first")
        await start(client, "sleeper", "second")
        refused = await post(client, "sleeper", "third")
        found = await client.get("/handlers/third")
        await client.post("/handlers/second/cancel")
        accepted = await post(client, "sleeper", "third")
    assert problem_of(refused) == (429, "too_many_runs")
    assert refused.headers["retry-after"] == "5"
    assert found.status_code == 404
    assert accepted.status_code == 200


async def test_of_many_runs_at_once_no_more_are_taken_than_may_be() -> None:
    async with limited(max_runs=3, max_pending_runs=4) as client:
        asked = [post(client, "sleeper", f"run-{number}") for number in range(20)]
        statuses = [response.status_code for response in await asyncio.gather(*asked)]
        gauges = [await read_gauge(client, f"runs_{name}") for name in ("at_work", "pending")]
    assert sorted(statuses) == [200] * 7 + [429] * 13
    assert gauges == [3, 4]


async def test_a_workflow_that_is_full_does_not_hold_up_others() -> None:
    async with limited(max_runs=10, max_runs_per_workflow=1, max_pending_runs=1) as client:
        await start(client, "sleeper", "first")
        await start(client, "sleeper", "second")
        refused = await post(client, "sleeper", "third")
        other = await run(client, "greeter", name="Ada")
    assert problem_of(refused) == (429, "too_many_runs")
    assert other["status"] == "completed"


async def test_a_run_that_waits_for_its_turn_is_cancelled_and_makes_room() -> None:
    async with limited(max_runs=1, max_pending_runs=1) as client:
        await start(client, "sleeper", "first")
        await start(client, "sleeper", "second")
        cancelled = await client.post("/handlers/second/cancel")
        gauge = await read_gauge(client, "runs_pending")
    assert cancelled.json() == {"status": "cancelled"}
    assert gauge == 0


class Echoing(Workflow):
    """Ends with the first answer that it gets."""

    @step
    async def begin(self, ev: StartEvent) -> Question:
        return Question(prompt="1")

    @step
    async def end(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)


async def test_a_queued_run_takes_events_and_gets_them_when_it_begins() -> None:
    server = WorkflowServer(limits=Limits(max_runs=1))
    server.add_workflow("echoing", Echoing(timeout=None))
    server.add_workflow("sleeper", Sleeper(timeout=None))
    async with open_client(server) as client:
        await start(client, "sleeper", "first")
        await start(client, "echoing", "second")
        sent = await answer(client, "second", "early")
        queued = (await client.get("/handlers/second")).json()
        await client.post("/handlers/first/cancel")
        result = await result_of(client, "second")
    assert (sent.status_code, sent.json()) == (200, {"status": "sent"})
    assert (queued["status"], queued["phase"]) == ("running", "queued")
    assert result == "early"


async def test_the_runs_of_each_phase_are_counted() -> None:
    async with limited(max_runs=1) as client:
        await start_asker(client)
        await wait_begun(client, await start(client, "sleeper", "first"))
        await start(client, "sleeper", "second")
        await start(client, "sleeper", "third")
        before = await read_phases(client)
        await client.post("/handlers/first/cancel")
        await client.post("/handlers/second/cancel")
        await wait_begun(client, "third")
        after = await read_phases(client)
    assert before == {"queued": 2, "working": 1, "waiting": 1, "held": 0}
    assert after == {"queued": 0, "working": 1, "waiting": 1, "held": 0}


async def test_idle_runs_leave_their_turn_to_others_and_are_answered_at_once() -> None:
    async with limited(max_runs=1, max_pending_runs=0) as client:
        idle = [await start_asker(client) for _ in range(5)]
        await wait_begun(client, await start(client, "sleeper", "busy"))
        refused = await post(client, "sleeper", "refused")
        answers = [(await answer(client, handler_id, "yes")).json() for handler_id in idle]
        handlers = [await wait_ended(client, handler_id) for handler_id in idle]
    assert problem_of(refused) == (429, "too_many_runs")
    assert answers == [{"status": "sent"}] * 5
    assert [handler["status"] for handler in handlers] == ["completed"] * 5


class BusyAsker(Workflow):
    """Asks, and sleeps once it is answered."""

    @step
    async def ask(self, ev: StartEvent) -> Question:
        return Question(prompt="1")

    @step
    async def work(self, ctx: Context, ev: Answer) -> StopEvent:
        ctx.write_event_to_stream(Number(number=1))
        await asyncio.sleep(3600)
        return StopEvent()


async def test_a_run_that_an_answer_wakes_counts_again() -> None:
    server = WorkflowServer(limits=Limits(max_runs=1, max_pending_runs=0))
    server.add_workflow("busy", BusyAsker(timeout=None))
    async with open_client(server) as client:
        handler_id = await start_asker(client, "busy")
        await answer(client, handler_id, "go on")
        refused = await post(client, "busy", "another")
        await client.post(f"/handlers/{handler_id}/cancel")
        accepted = await post(client, "busy", "another")
    assert problem_of(refused) == (429, "too_many_runs")
    assert accepted.status_code == 200


async def test_runs_that_are_resumed_are_never_refused_and_go_on_in_turn() -> None:
    store = MemoryStore()
    async with restarting(
        store, options={"limits": Limits(max_runs=2)}, sleeper=Sleeper(timeout=None)
    ) as server:
        names = [await start(server.client, "sleeper", f"run-{n}", seconds=0.05) for n in range(8)]
        server.options["limits"] = Limits(max_runs=1, max_pending_runs=0)
        await server.restart()
        refused = await post(server.client, "sleeper", "new")
        handlers = [await wait_ended(server.client, name) for name in names]
    assert problem_of(refused) == (429, "too_many_runs")
    assert [handler["status"] for handler in handlers] == ["completed"] * 8


async def test_a_run_that_never_had_its_turn_is_no_run_that_ends_the_process() -> None:
    store = MemoryStore()
    async with restarting(
        store,
        options={"limits": Limits(max_runs=1), "max_resumes": 1},
        sleeper=Sleeper(timeout=None),
        asker=Asker(timeout=None),
    ) as server:
        await wait_begun(server.client, await start(server.client, "sleeper", "busy"))
        await start(server.client, "asker", "pending")
        await server.restart()
        await read_until(
            server.client,
            "busy",
            lambda frame: frame.type == "RunResumedEvent",
            include_internal=True,
        )
        await server.restart()
        busy = await wait_ended(server.client, "busy")
        await wait_question(server.client, "pending", "1")
        await answer(server.client, "pending", "yes")
        pending = await wait_ended(server.client, "pending")
    assert (busy["status"], pending["status"]) == ("failed", "completed")


# Events.


class Large(Workflow):
    """Writes, passes on or returns text of some size."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Number | StopEvent:
        text = "x" * ev.size
        if ev.way == "write":
            ctx.write_event_to_stream(Number(number=1, text=text))
            await asyncio.sleep(3600)
        if ev.way == "return":
            return StopEvent(result=text)
        return Number(number=2, text=text)

    @step
    async def end(self, ev: Number) -> StopEvent:
        return StopEvent(result=len(ev.text))


@pytest.fixture
async def small() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server that takes small events only."""
    server = WorkflowServer(limits=Limits(max_event_size=2_000))
    server.add_workflow("large", Large(timeout=None))
    add_all(server)
    async with open_client(server) as client:
        yield client


@pytest.mark.parametrize(
    ("way", "error"),
    [
        ("write", "An event could not be written to the stream: Number has 2111 bytes of JSON"),
        ("pass", "An event is too large: Number has 2111 bytes of JSON"),
        ("return", "The result cannot be returned: StopEvent has 2101 bytes of JSON"),
    ],
)
async def test_a_run_that_gives_too_large_an_event_fails_and_says_so(
    small: httpx.AsyncClient, way: str, error: str
) -> None:
    handler = await run(small, "large", way=way, size=2_000)
    frames = await read_frames(small, handler["handler_id"])
    assert (handler["status"], handler["error"]) == (
        "failed",
        f"{error}, and 2000 are allowed.",
    )
    assert [frame.type for frame in frames] == ["WorkflowFailedEvent"]


@pytest.mark.parametrize("way", ["write", "pass", "return"])
async def test_events_within_the_limit_are_taken(small: httpx.AsyncClient, way: str) -> None:
    handler_id = await start(small, "large", way=way, size=1_500)
    await wait_begun(small, handler_id)
    status = await get_status(small, handler_id)
    assert status == ("running" if way == "write" else "completed")


async def test_too_large_an_event_is_not_sent_and_the_run_goes_on(
    small: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(small)
    refused = await send(small, handler_id, "Answer", {"text": "x" * 2_000})
    await answer(small, handler_id, "short")
    handler = await wait_ended(small, handler_id)
    assert problem_of(refused) == (413, "event_too_large")
    assert handler["result"]["value"] == {"result": ["short"]}


async def test_too_large_a_start_event_starts_nothing(small: httpx.AsyncClient) -> None:
    response = await small.post(
        "/workflows/echo/run", json={"handler_id": "h", "start_event": {"text": "x" * 2_000}}
    )
    assert problem_of(response) == (413, "event_too_large")
    assert (await small.get("/handlers/h")).status_code == 404
