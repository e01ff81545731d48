"""Runs that wait for a slot: none is lost or overtaken, and what is sent to them reaches them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from tests.durability.restarts import Restarts, restarting
from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import (
    answer,
    phase_of,
    result_of,
    send,
    start,
    start_asker,
    wait_phase,
    wait_question,
)
from tests.support.command import serving, write
from tests.support.documents import ROOT
from tests.support.inspection import is_claiming, is_evicted, key_of
from tests.support.problems import problem_of
from tests.support.records import batch_of, make_record
from tests.support.streams import read_frames
from tests.support.waiting import until
from tests.support.workflows import Asker, Question, Sleeper, Waiter
from workflow_server.schemas.records import Phase, PhaseCount, UnfinishedRun
from workflow_server.stores.base import Store, StoreUnavailable
from workflow_server.stores.memory import MemoryStore

KILLED = 60.0  # seconds that a start of a process may take, and more


class Begun(StartEvent):
    number: int = -1


class Recording(Workflow):
    """Notes that it has begun, and ends once it is let."""

    def __init__(self, order: list[int], **options: Any) -> None:
        super().__init__(timeout=None, **options)
        self.order = order
        self.opened = asyncio.Event()

    @step
    async def note(self, ev: Begun) -> StopEvent:
        self.order.append(ev.number)
        await self.opened.wait()
        return StopEvent(result=ev.number)


class Word(HumanResponseEvent):
    text: str


class Said(BaseModel):
    words: list[str] = Field(default_factory=list)


class Say(InputRequiredEvent):
    pass


class Words(Workflow):
    """Gathers words in the order in which they come, until one is empty."""

    @step
    async def ask(self, ev: StartEvent) -> Say:
        return Say()

    @step(num_workers=1)
    async def gather(self, ctx: Context[Said], ev: Word) -> StopEvent | None:
        async with ctx.store.edit_state() as state:
            state.words.append(ev.text)
            return None if ev.text else StopEvent(result=state.words[:-1])


class Choosy(Workflow):
    """Waits for a word."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        word = await ctx.wait_for_event(Word, waiter_event=Question(prompt="?"))
        return StopEvent(result=word.text)


class Renamed(Workflow):
    """What became of `Choosy`: its step is called otherwise."""

    @step
    async def tally(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="tallied")


# Workflows that limit whole runs.


@pytest.mark.parametrize("kind", [Asker, Waiter])
@pytest.mark.parametrize("idle_timeout", [3600.0, 0.0])
async def test_an_answer_is_taken_though_another_run_of_the_workflow_is_queued(
    store: Store, kind: type[Asker | Waiter], idle_timeout: float
) -> None:
    options = {"idle_timeout": idle_timeout}
    workflow = kind(timeout=None, num_concurrent_runs=1)
    async with restarting(store, options=options, it=workflow) as restarts:
        client = restarts.client
        first = await start_asker(client, "it")
        await start(client, "it", "second")
        if not idle_timeout:
            await until(lambda: is_evicted(restarts.server, first))
        assert await phase_of(client, "second") == "queued"
        assert await answer_all(client, first, kind) == ["yes"] * ANSWERS[kind]
        assert await answer_all(client, "second", kind) == ["yes"] * ANSWERS[kind]


ANSWERS = {Asker: 1, Waiter: 2}
PROMPTS = {Asker: ["1"], Waiter: ["first", "second"]}


async def answer_all(
    client: httpx.AsyncClient, handler_id: str, kind: type[Asker | Waiter]
) -> object:
    """Answer all questions of a run, and return its result."""
    for prompt in PROMPTS[kind]:
        question = await wait_question(client, handler_id, prompt)
        answered = await answer(client, handler_id, "yes", reply_to=question)
        assert answered.status_code == 200, answered.text
    return await result_of(client, handler_id)


@pytest.mark.parametrize("kind", [Asker, Waiter])
@pytest.mark.parametrize("how", ["crash", "stop"])
async def test_an_answer_is_taken_after_a_restart_though_another_run_is_queued(
    store: Store, kind: type[Asker | Waiter], how: str
) -> None:
    async with restarting(store, it=kind(timeout=None, num_concurrent_runs=1)) as restarts:
        first = await start_asker(restarts.client, "it")
        await wait_phase(restarts.client, first, "waiting")
        await start(restarts.client, "it", "second")
        await getattr(restarts, how)()
        await restarts.start(it=kind(timeout=None, num_concurrent_runs=1))
        client = restarts.client
        await wait_phase(client, "second", "queued")
        assert await phase_of(client, first) == "waiting"
        assert await answer_all(client, first, kind) == ["yes"] * ANSWERS[kind]
        assert await answer_all(client, "second", kind) == ["yes"] * ANSWERS[kind]


async def test_an_answer_is_taken_after_a_restart_though_the_one_slot_is_taken(
    store: Store,
) -> None:
    options = {"max_runs": 1}
    async with restarting(
        store, options=options, asker=Asker(timeout=None), sleeper=Sleeper(timeout=None)
    ) as restarts:
        waiting = await start_asker(restarts.client, "asker")
        await wait_phase(restarts.client, waiting, "waiting")
        await start(restarts.client, "sleeper", "busy")
        await start(restarts.client, "asker", "queued")
        await restarts.restart()
        await until(lambda: not is_claiming())
        assert await answer_all(restarts.client, waiting, Asker) == ["yes"]
        assert await phase_of(restarts.client, "queued") == "queued"


SERVED = """
from tests.support.workflows import Asker

it = Asker(timeout=None, num_concurrent_runs=1)
"""


@pytest.mark.parametrize("kind", DURABLE)
async def test_an_answer_is_taken_after_a_kill_though_another_run_is_queued(
    kind: str, tmp_path: Path
) -> None:
    served = write(tmp_path / "served.py", SERVED)
    async with FRESH_URLS[kind](tmp_path) as url:
        arguments = (str(served), "--store", url)
        with serving(tmp_path, *arguments, PYTHONPATH=str(ROOT)) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=KILLED) as client:
                first = await start_asker(client, "it")
                await wait_phase(client, first, "waiting")
                await start(client, "it", "second")
        with serving(tmp_path, *arguments, PYTHONPATH=str(ROOT)) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=KILLED) as client:
                assert await answer_all(client, first, Asker) == ["yes"]
                assert await answer_all(client, "second", Asker) == ["yes"]


@pytest.mark.parametrize("on_misfit", ["hold", "fail"])
async def test_a_waiting_run_that_no_longer_fits_gives_its_slot_to_others(on_misfit: str) -> None:
    options: dict[str, Any] = {"on_misfit": on_misfit}
    store = MemoryStore()
    async with restarting(
        store, options=options, it=Choosy(timeout=None, num_concurrent_runs=1)
    ) as restarts:
        waiting = await start_asker(restarts.client, "it")
        await wait_phase(restarts.client, waiting, "waiting")
        await restarts.restart(it=Renamed(timeout=None, num_concurrent_runs=1))
        refused = await send(restarts.client, waiting, "Word", {"text": "a"})
        assert refused.status_code == 409
        await start(restarts.client, "it", "next")
        assert await result_of(restarts.client, "next") == "tallied"


# The order of acceptance.


async def test_runs_begin_in_the_order_of_acceptance_after_a_restart(store: Store) -> None:
    options, before = {"max_runs": 1}, Recording([])
    async with restarting(store, options=options, it=before) as restarts:
        for number in range(10):
            await start(restarts.client, "it", f"run-{number}", number=number)
        await until(lambda: before.order == [0])
        after = Recording([])
        after.opened.set()
        await restarts.restart(it=after)
        results = [await result_of(restarts.client, f"run-{number}") for number in range(10)]
        assert (results, after.order) == (list(range(10)), list(range(10)))


async def test_a_run_that_is_accepted_after_a_restart_begins_after_those_before(
    store: Store,
) -> None:
    options, before = {"max_runs": 1}, Recording([])
    async with restarting(store, options=options, it=before) as restarts:
        for number in range(3):
            await start(restarts.client, "it", f"run-{number}", number=number)
        await until(lambda: before.order == [0])
        after = Recording([])
        await restarts.restart(it=after)
        await start(restarts.client, "it", "run-3", number=3)
        after.opened.set()
        assert await result_of(restarts.client, "run-3") == 3
        assert after.order == [0, 1, 2, 3]


async def test_runs_that_were_at_work_go_on_before_those_that_were_queued(store: Store) -> None:
    options, order = {"max_runs": 2}, list[int]()
    async with restarting(
        store, options=options, one=Recording(order, num_concurrent_runs=1), two=Recording(order)
    ) as restarts:
        await start(restarts.client, "one", "first", number=1)
        await start(restarts.client, "one", "second", number=2)
        await start(restarts.client, "two", "third", number=3)
        await until(lambda: sorted(order) == [1, 3])
        # The limit of the first workflow is gone, so that its second run might begin.
        await restarts.restart(one=Recording([]), two=Recording([]))
        await until(lambda: not is_claiming())
        ids = ("first", "second", "third")
        phases = [await phase_of(restarts.client, handler_id) for handler_id in ids]
        assert phases == ["working", "queued", "working"]


async def test_a_run_that_was_at_work_and_has_no_slot_now_is_queued_again(store: Store) -> None:
    options: dict[str, Any] = {"max_runs": 3}
    order: list[int] = []
    async with restarting(store, options=options, it=Recording(order)) as restarts:
        for number in range(4):
            await start(restarts.client, "it", f"run-{number}", number=number)
        await until(lambda: sorted(order) == [0, 1, 2])
        restarts.options["max_runs"] = 1
        after = Recording([])
        await restarts.restart(it=after)
        for number in range(1, 4):
            await wait_phase(restarts.client, f"run-{number}", "queued")
        await wait_phase(restarts.client, "run-0", "working")
        after.opened.set()
        results = [await result_of(restarts.client, f"run-{number}") for number in range(4)]
        assert (results, after.order) == ([0, 1, 2, 3], [0, 1, 2, 3])


async def test_no_queued_run_begins_because_the_server_stops() -> None:
    order, store = list[int](), MemoryStore()
    async with restarting(store, options={"max_runs": 1}, it=Recording(order)) as restarts:
        for number in range(3):
            await start(restarts.client, "it", f"run-{number}", number=number)
        await until(lambda: order == [0])
        await restarts.stop()
        records = [await store.get_handler(key_of(f"run-{number}")) for number in range(3)]
        phases = [record and record.phase for record in records]
        assert (order, phases) == ([0], [Phase.WORKING, Phase.QUEUED, Phase.QUEUED])


class Dawdling(MemoryStore):
    """Lists nothing that is unfinished until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def list_unfinished(
        self,
        phase: Phase,
        *,
        workflow_name: str | None = None,
        after: UnfinishedRun | None = None,
        limit: int,
    ) -> Any:
        await self.let.wait()
        return await super().list_unfinished(
            phase, workflow_name=workflow_name, after=after, limit=limit
        )


async def test_an_event_lets_no_queued_run_overtake_one_that_is_not_yet_claimed() -> None:
    store = Dawdling()
    records = [make_record("a", accepted=1), make_record("b", accepted=2)]
    await store.commit(batch_of(*records))
    async with restarting(store, options={"max_runs": 1}, it=Words(timeout=None)) as restarts:
        sent = await send(restarts.client, "b", "Word", {"text": "early"})
        phase = await phase_of(restarts.client, "b")
        store.let.set()
        assert (sent.status_code, phase) == (200, "queued")


class Uncounted(MemoryStore):
    """Fails to count what is unfinished when a server starts, and then counts once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.let = asyncio.Event()

    async def count_unfinished(self) -> Sequence[PhaseCount]:
        if self.fails:
            self.fails = False
            raise StoreUnavailable("not now")
        await self.let.wait()
        return await super().count_unfinished()


async def test_slots_are_counted_right_though_a_run_goes_on_before_they_are_counted() -> None:
    store = Uncounted()
    store.let.set()
    async with restarting(store, it=Asker(timeout=None, num_concurrent_runs=1)) as restarts:
        first = await start_asker(restarts.client, "it")
        await wait_phase(restarts.client, first, "waiting")
        store.let.clear()
        store.fails = True
        await restarts.restart()
        answering = asyncio.create_task(answer_all(restarts.client, first, Asker))
        await asyncio.sleep(0)
        store.let.set()
        await answering
        await until(lambda: not is_claiming())
        for number in range(3):
            await start(restarts.client, "it", f"run-{number}")
        await wait_question(restarts.client, "run-0", "1")
        phases = [await phase_of(restarts.client, f"run-{number}") for number in range(3)]
        assert phases[1:] == ["queued", "queued"]


# Events for queued runs.


async def start_busy(restarts: Restarts) -> None:
    """Start a run that keeps the one slot, and one that is queued behind it."""
    await start(restarts.client, "sleeper", "busy")
    await start(restarts.client, "words", "queued")


async def say(client: httpx.AsyncClient, *words: str) -> None:
    """Send words to the queued run, one after the other."""
    for word in words:
        sent = await send(client, "queued", "Word", {"text": word})
        assert (sent.status_code, sent.json()) == (200, {"status": "sent"})


@pytest.fixture
async def restarts(store: Store) -> AsyncIterator[Restarts]:
    """Yield a server with one slot, over a store of each kind."""
    workflows = {"words": Words(timeout=None), "sleeper": Sleeper(timeout=None)}
    async with restarting(store, options={"max_runs": 1}, **workflows) as restarts:
        yield restarts


@pytest.mark.parametrize("how", ["crash", "stop"])
async def test_events_for_a_queued_run_outlive_restarts_and_are_handed_over_in_order(
    restarts: Restarts, how: str
) -> None:
    await start_busy(restarts)
    await say(restarts.client, "a", "b")
    await getattr(restarts, how)()
    await restarts.start()
    await say(restarts.client, "c")
    await getattr(restarts, how)()
    await restarts.start()
    await say(restarts.client, "d", "")
    await restarts.client.post("/handlers/busy/cancel")
    assert await result_of(restarts.client, "queued") == ["a", "b", "c", "d"]


async def test_events_for_a_queued_run_are_handed_over_before_those_that_come_later(
    restarts: Restarts,
) -> None:
    await start_busy(restarts)
    await say(restarts.client, "a", "b")
    cancelling = asyncio.create_task(restarts.client.post("/handlers/busy/cancel"))
    words = [str(number) for number in range(20)]
    await say(restarts.client, *words, "")
    await cancelling
    assert await result_of(restarts.client, "queued") == ["a", "b", *words]


async def test_events_are_handed_over_once_when_the_server_crashes_after_the_run_has_begun(
    restarts: Restarts,
) -> None:
    await start_busy(restarts)
    await say(restarts.client, "a", "b", "c")
    await restarts.client.post("/handlers/busy/cancel")
    await wait_phase(restarts.client, "queued", "waiting")
    await restarts.restart()
    await say(restarts.client, "d", "")
    assert await result_of(restarts.client, "queued") == ["a", "b", "c", "d"]
    record = await restarts.real.get_run(
        (await restarts.client.get("/handlers/queued")).json()["run_id"]
    )
    assert record is not None
    assert list(await restarts.real.read_inbox(record.run_id)) == []


async def test_a_cancelled_queued_run_leaves_no_inbox(restarts: Restarts) -> None:
    await start_busy(restarts)
    await say(restarts.client, "a", "b")
    run_id = (await restarts.client.get("/handlers/queued")).json()["run_id"]
    left = len(await restarts.real.read_inbox(run_id))
    await restarts.client.post("/handlers/queued/cancel")
    assert (left, list(await restarts.real.read_inbox(run_id))) == (2, [])


async def test_an_event_that_no_step_takes_is_refused_by_a_queued_run_too(
    restarts: Restarts,
) -> None:
    await start_busy(restarts)
    refused = await send(restarts.client, "queued", "Nonsense", {})
    unknown = await send(restarts.client, "queued", "Word", {"text": "a"}, step="nowhere")
    assert [problem_of(response)[0] for response in (refused, unknown)] == [400, 400]


async def test_an_event_for_a_queued_run_goes_to_the_step_that_it_names(
    restarts: Restarts,
) -> None:
    await start_busy(restarts)
    for word in ("a", ""):
        sent = await send(restarts.client, "queued", "Word", {"text": word}, step="gather")
        assert sent.status_code == 200, sent.text
    await restarts.restart()
    await restarts.client.post("/handlers/busy/cancel")
    assert await result_of(restarts.client, "queued") == ["a"]


async def test_a_queued_answer_settles_its_question_once(store: Store) -> None:
    workflows: dict[str, Workflow] = {
        "asker": Asker(timeout=None),
        "recording": Recording([]),
    }
    options: dict[str, Any] = {"max_runs": 2}
    async with restarting(store, options=options, **workflows) as restarts:
        first = await start_asker(restarts.client, "asker", questions=2)
        question = await wait_question(restarts.client, first, "1")
        answered = await answer(restarts.client, first, "yes", reply_to=question)
        again = await answer(restarts.client, first, "no", reply_to=question)
        await restarts.restart()
        later = await answer(restarts.client, first, "no", reply_to=question)
        await answer(restarts.client, first, "and yes")
        statuses = [response.status_code for response in (answered, again, later)]
        assert statuses == [200, 409, 409]
        assert await result_of(restarts.client, first) == ["yes", "and yes"]


# A process that is killed while a run takes what was sent to it.

KILLED_SERVED = """
import asyncio
import os
import signal
from pathlib import Path

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

FATAL = Path(os.environ["FATAL"])


class Word(HumanResponseEvent):
    text: str


class Said(BaseModel):
    words: list[str] = Field(default_factory=list)


class Say(InputRequiredEvent):
    pass


class Words(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> Say:
        die_at("begin")
        return Say()

    @step(num_workers=1)
    async def gather(self, ctx: Context[Said], ev: Word) -> StopEvent | None:
        die_at(ev.text)
        async with ctx.store.edit_state() as state:
            state.words.append(ev.text)
            return None if ev.text else StopEvent(result=state.words[:-1])


def die_at(word: str) -> None:
    if FATAL.exists() and FATAL.read_text() == word:
        FATAL.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class Sleeper(Workflow):
    @step
    async def sleep(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(3600)
        return StopEvent()


words, sleeper = Words(timeout=None), Sleeper(timeout=None)
"""


@pytest.mark.parametrize("fatal", ["begin", "a", "c"])
@pytest.mark.parametrize("kind", DURABLE)
async def test_events_are_handed_over_once_when_the_process_is_killed_at_any_of_them(
    kind: str, fatal: str, tmp_path: Path
) -> None:
    served, mark = write(tmp_path / "served.py", KILLED_SERVED), tmp_path / "fatal"
    async with FRESH_URLS[kind](tmp_path) as url:
        arguments = (str(served), "--store", url, "--max-runs", "1")
        with serving(tmp_path, *arguments, FATAL=str(mark)) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=KILLED) as client:
                await start(client, "sleeper", "busy")
                await start(client, "words", "queued")
                await say(client, "a", "b", "c", "d")
                mark.write_text(fatal)
                cancelling = asyncio.create_task(client.post("/handlers/busy/cancel"))
                assert await asyncio.to_thread(server.process.wait, KILLED) == -9
                await asyncio.gather(cancelling, return_exceptions=True)
        with serving(tmp_path, *arguments, FATAL=str(mark)) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=KILLED) as client:
                await client.post("/handlers/busy/cancel")
                await say(client, "")
                result = await result_of(client, "queued")
                frames = await read_frames(client, "queued")
    assert result == ["a", "b", "c", "d"]
    assert [frame.sequence for frame in frames] == sorted({frame.sequence for frame in frames})
