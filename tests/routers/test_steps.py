"""`GET /handlers/{id}/steps`: each attempt of each step, whatever became of the run."""

import asyncio
import secrets
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, field_serializer
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import phase_of, run, send, start, wait_ended, wait_phase, wait_question
from tests.support.credentials import KeyBook, bearer
from tests.support.live import open_client, serve_workflow
from tests.support.waiting import until
from tests.support.workflows import Asker, Question
from workflow_server.app.access import Scope
from workflow_server.app.handlers.histories import PAGE_BYTES
from workflow_server.app.runs.history import MAX_HISTORY_BYTES
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import PayloadRecord, Phase
from workflow_server.stores.memory import MemoryStore

Json = dict[str, Any]


class Given(StartEvent):
    number: int


class Half(Event):
    number: int


class Flaky(Workflow):
    """Doubles a number, at the second try."""

    @step
    async def halve(self, ev: Given) -> Half:
        return Half(number=ev.number // 2)

    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def work(self, ctx: Context, ev: Half) -> StopEvent:
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("the service is down")
        return StopEvent(result=ev.number)


class Broken(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise KeyError("gone")


async def get_steps(client: httpx.AsyncClient, handler_id: str, **query: Any) -> Json:
    """Return the steps of a handler's run."""
    response = await client.get(f"/handlers/{handler_id}/steps", params=query)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


def outline(page: Json) -> list[tuple[str, int, str]]:
    """Return step, attempt and status of each step of a page."""
    return [(step["step"], step["attempt"], step["status"]) for step in page["steps"]]


FLAKY = [("halve", 1, "completed"), ("work", 1, "failed"), ("work", 2, "completed")]


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_a_completed_run_shows_each_attempt_of_each_step(kind: str, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    async with (
        FRESH_URLS[kind](tmp_path) as url,
        opened_store(url) as store,
        restarting(store, it=Flaky()) as restarts,
    ):
        handler = await run(restarts.client, "it", number=4)
        await restarts.restart()
        page = await get_steps(restarts.client, handler["handler_id"])
    halve, failed, worked = page["steps"]
    assert outline(page) == FLAKY
    assert (page["run_id"], page["dropped"]) == (handler["run_id"], False)
    assert page["next_cursor"] is None
    assert halve["input"]["value"] == {"number": 4}
    assert [event["value"] for event in halve["output"]] == [{"number": 2}]
    assert failed["error"] | {"traceback": ""} == {
        "type": "ConnectionError",
        "qualified_name": "builtins.ConnectionError",
        "message": "the service is down",
        "retry_in": 0.0,
        "traceback": "",
    }
    assert 'raise ConnectionError("the service is down")' in failed["error"]["traceback"]
    assert failed["output"] == []
    assert [event["value"] for event in worked["output"]] == [{"result": 2}]
    times = [datetime.fromisoformat(step[at]) for step in page["steps"] for at in TIMES]
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= datetime.now(UTC)


TIMES = "started_at", "ended_at"


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_a_failed_and_a_cancelled_run_show_their_steps(kind: str, tmp_path: Path) -> None:
    async with (
        FRESH_URLS[kind](tmp_path) as url,
        opened_store(url) as store,
        restarting(store, broken=Broken(), asker=Asker(timeout=None)) as restarts,
    ):
        broken = (await run(restarts.client, "broken"))["handler_id"]
        asker = await start(restarts.client, "asker")
        await wait_phase(restarts.client, asker, "waiting")
        going_on = await get_steps(restarts.client, asker)
        await restarts.client.post(f"/handlers/{asker}/cancel")
        await restarts.restart()
        failed = await get_steps(restarts.client, broken)
        cancelled = await get_steps(restarts.client, asker)
    assert outline(failed) == [("fail", 1, "failed")]
    assert failed["steps"][0]["error"]["message"] == "'gone'"
    assert outline(going_on) == [("begin", 1, "completed")]
    assert cancelled == going_on


async def test_pages_follow_one_another_without_a_gap() -> None:
    async with serve_workflow(Flaky()) as client:
        handler_id = (await run(client, "it", number=4))["handler_id"]
        whole = await get_steps(client, handler_id)
        first = await get_steps(client, handler_id, limit=2)
        second = await get_steps(client, handler_id, limit=2, cursor=first["next_cursor"])
        wrong = await client.get(f"/handlers/{handler_id}/steps?cursor=x")
    assert first["steps"] + second["steps"] == whole["steps"]
    assert second["next_cursor"] is None
    assert wrong.status_code == 400


async def test_an_earlier_run_of_a_handler_keeps_its_steps() -> None:
    async with serve_workflow(Flaky()) as client:
        first = await run(client, "it", number=4)
        handler_id = first["handler_id"]
        await start(client, "it", handler_id, number=8)
        await wait_ended(client, handler_id)
        earlier = await get_steps(client, handler_id, run_id=first["run_id"])
        now = await get_steps(client, handler_id)
    assert earlier["steps"][0]["input"]["value"] == {"number": 4}
    assert now["steps"][0]["input"]["value"] == {"number": 8}


@pytest.mark.parametrize("who", ["server", "workflow", "run"])
async def test_no_history_is_kept_where_the_server_or_the_workflow_or_the_run_says_so(
    who: str,
) -> None:
    server = WorkflowServer(keep_history=who != "server")
    server.add_workflow("it", Broken(), keep_history=who != "workflow")
    body = {"keep_history": False} if who == "run" else {}
    async with open_client(server) as client:
        handler = (await client.post("/workflows/it/run", json={"start_event": {}, **body})).json()
        refused = await client.get(f"/handlers/{handler['handler_id']}/steps")
        unknown = await client.get("/handlers/nobody/steps")
    assert (refused.status_code, refused.json()["code"]) == (409, "history_not_kept")
    assert unknown.status_code == 404


async def test_a_traceback_takes_the_scope_admin(tmp_path: Path) -> None:
    book = KeyBook(tmp_path / "keys.json")
    ada, bob = book.add("ada", Scope.ADMIN), book.add("bob", Scope.RUN)
    server = WorkflowServer(access=book.open_access())
    server.add_workflow("it", Broken())
    shown: list[str | None] = []
    async with open_client(server) as client:
        client.headers.update(bearer(bob))
        handler_id = (await run(client, "it"))["handler_id"]
        for key in (ada, bob):
            client.headers.update(bearer(key))
            (failed,) = (await get_steps(client, handler_id))["steps"]
            assert failed["error"]["message"] == "'gone'"
            shown.append(failed["error"]["traceback"])
    of_admin, of_other = shown
    assert of_other is None
    assert "KeyError: 'gone'" in str(of_admin)


class Password(HumanResponseEvent):
    password: SecretStr


class Login(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Password:
        return await ctx.wait_for_event(Password, waiter_event=InputRequiredEvent())

    @step
    async def check(self, ev: Password) -> StopEvent:
        return StopEvent(result=len(ev.password.get_secret_value()))


async def test_secrets_are_masked() -> None:
    async with serve_workflow(Login(timeout=None)) as client:
        handler_id = await start(client, "it")
        await wait_phase(client, handler_id, "waiting")
        await send(client, handler_id, "Password", {"password": "Xyzzy"})
        await wait_ended(client, handler_id)
        page = await get_steps(client, handler_id)
    check = page["steps"][-1]
    assert (check["step"], check["input"]["value"]) == ("check", {"password": "**********"})
    assert "Xyzzy" not in str(page)


class Several(Workflow):
    """Asks twice."""

    @step
    async def first(self, ctx: Context, ev: StartEvent) -> Half:
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=Question(prompt="1"))
        return Half(number=1)

    @step
    async def second(self, ctx: Context, ev: Half) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=Question(prompt="2"))
        return StopEvent(result="x" * 1_000)


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_steps_before_and_after_a_restart_and_an_eviction_are_shown(
    kind: str, tmp_path: Path
) -> None:
    async with (
        FRESH_URLS[kind](tmp_path) as url,
        opened_store(url) as store,
        restarting(store, options={"idle_timeout": 0}, it=Several(timeout=None)) as restarts,
    ):
        handler_id = await start(restarts.client, "it")
        await wait_question(restarts.client, handler_id, "1")
        await send(restarts.client, handler_id, "HumanResponseEvent", {})
        await wait_question(restarts.client, handler_id, "2")
        before = await get_steps(restarts.client, handler_id)
        await restarts.restart()
        await send(restarts.client, handler_id, "HumanResponseEvent", {})
        await wait_ended(restarts.client, handler_id)
        after = await get_steps(restarts.client, handler_id)
    assert outline(before)[:2] == [("first", 1, "waiting"), ("first", 1, "completed")]
    assert after["steps"][: len(before["steps"])] == before["steps"]
    assert outline(after)[-2:] == [("second", 1, "waiting"), ("second", 1, "completed")]
    assert after["dropped"] is False


async def test_head_answers_as_get_does() -> None:
    async with serve_workflow(Flaky()) as client:
        handler_id = (await run(client, "it", number=4))["handler_id"]
        got = await client.get(f"/handlers/{handler_id}/steps")
        head = await client.head(f"/handlers/{handler_id}/steps")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))


class Holder(Event):
    held: Any = None
    text: str = ""


class Unfaithful(Workflow):
    """Hands on what nothing can write down."""

    @step
    async def begin(self, ev: StartEvent) -> Holder:
        return Holder(held=object())

    @step
    async def end(self, ctx: Context, ev: Holder) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=Question(prompt="1"))
        return StopEvent()


class Heavy(Workflow):
    """Hands on more than is kept of a tick."""

    @step
    async def begin(self, ev: StartEvent) -> Holder:
        return Holder(text="x" * (1 << 20))

    @step
    async def end(self, ev: Holder) -> StopEvent:
        return StopEvent()


class HeavyAndWaiting(Workflow):
    """Goes on with more than is kept of a tick, by a value that it has many times."""

    @step
    async def begin(self, ev: StartEvent) -> Holder:
        return Holder(held=[Holder(text="x" * 1_000)] * 2_000)

    @step
    async def end(self, ctx: Context, ev: Holder) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=Question(prompt="1"))
        return StopEvent()


@pytest.mark.parametrize(
    "workflow", [Unfaithful(timeout=None), Heavy(), HeavyAndWaiting(timeout=None)]
)
async def test_of_values_that_are_not_kept_the_step_is_told_without_them(
    workflow: Workflow,
) -> None:
    async with serve_workflow(workflow) as client:
        handler_id = await start(client, "it")
        await until_begun_or_ended(client, handler_id)
        page = await get_steps(client, handler_id)
    assert outline(page)[:2] == [("begin", 1, "completed"), ("end", 1, page["steps"][1]["status"])]
    assert page["steps"][0]["left_out"] is not None
    assert (page["steps"][0]["input"], page["steps"][0]["output"]) == (None, [])
    assert page["steps"][0]["started_at"] <= page["steps"][0]["ended_at"]


class Text(Event):
    text: str


class Hoarding(Workflow):
    """Keeps large events in memory, and goes on with small ones."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Text | Holder:
        for number in range(HOARDED):
            ctx.send_event(Holder(held=number, text="x" * 900_000))
        return Text(text="y" * 1_000)

    @step
    async def hoard(self, ctx: Context, ev: Holder) -> StopEvent | None:
        ctx.collect_events(ev, [Holder] * (HOARDED + 1))
        return None

    @step
    async def end(self, ctx: Context, ev: Text) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=Question(prompt="1"))
        return StopEvent()


HOARDED = 20


async def test_a_run_that_holds_much_and_goes_on_shows_its_small_values() -> None:
    async with serve_workflow(Hoarding(timeout=None)) as client:
        handler_id = await start(client, "it")
        await until_begun_or_ended(client, handler_id)
        steps: list[Json] = []
        page: Json = {"next_cursor": -1}
        while page["next_cursor"] is not None:
            after = {} if page["next_cursor"] == -1 else {"cursor": page["next_cursor"]}
            page = await get_steps(client, handler_id, **after)
            steps += page["steps"]
    (ended,) = (step for step in steps if step["step"] == "end")
    assert ended["input"]["value"] == {"text": "y" * 1_000}


THREADS: list[threading.Thread] = []


class Watched(StopEvent):
    """An event that notes where it is written."""

    text: str

    @field_serializer("text")
    def write_text(self, text: str) -> str:
        THREADS.append(threading.current_thread())
        return text


class Watching(Workflow):
    @step
    async def end(self, ev: StartEvent) -> Watched:
        return Watched(text="x" * 100_000)


async def test_a_step_with_large_values_is_read_beside_the_event_loop() -> None:
    async with serve_workflow(Watching()) as client:
        handler_id = (await run(client, "it"))["handler_id"]
        THREADS.clear()
        page = await get_steps(client, handler_id)
    assert len(page["steps"][-1]["output"][0]["value"]["text"]) == 100_000
    assert [thread is threading.current_thread() for thread in THREADS] == [False]


async def until_begun_or_ended(client: httpx.AsyncClient, handler_id: str) -> None:
    """Return once the run waits, or has ended."""

    async def is_at_rest() -> bool:
        return await phase_of(client, handler_id) in ("waiting", "ended")

    await until(is_at_rest)


class Gated(Workflow):
    """Passes a large text on, and ends once it is let."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.opened = asyncio.Event()

    @step
    async def write(self, ev: StartEvent) -> Text:
        return Text(text=LARGE_TEXT)

    @step
    async def keep(self, ev: Text) -> StopEvent:
        await self.opened.wait()
        return StopEvent()


LARGE_TEXT = "a" * 9_000


class Racing(MemoryStore):
    """Lets a run end, which drops its payloads, right before somebody reads them."""

    def __init__(self, workflow: Gated) -> None:
        super().__init__()
        self._workflow = workflow

    async def read_payloads(
        self, run_id: str, *, after: int, limit: int
    ) -> Sequence[PayloadRecord]:
        self._workflow.opened.set()
        await until(lambda: self.has_ended(run_id))
        return await super().read_payloads(run_id, after=after, limit=limit)

    async def has_ended(self, run_id: str) -> bool:
        record = await self.get_run(run_id)
        return record is not None and record.phase is Phase.ENDED


async def test_a_run_that_packs_its_steps_while_they_are_read_loses_none_of_their_values() -> None:
    workflow = Gated()
    server = WorkflowServer(workflow_store=Racing(workflow))
    server.add_workflow("gated", workflow)
    async with open_client(server) as client:
        handler_id = await start(client, "gated")
        steps: list[Json] = []
        while not steps:
            steps = (await get_steps(client, handler_id))["steps"]
    (written, *_) = steps
    assert workflow.opened.is_set()
    assert [event["value"] for event in written["output"]] == [{"text": LARGE_TEXT}]


async def test_a_run_of_a_workflow_that_is_not_served_any_more_tells_the_rest(
    tmp_path: Path,
) -> None:
    async with opened_store(f"sqlite:///{tmp_path / 'runs.db'}") as store:
        async with restarting(store, it=Broken()) as restarts:
            handler_id = (await run(restarts.client, "it"))["handler_id"]
        async with restarting(store, other=Broken()) as restarts:
            (failed,) = (await get_steps(restarts.client, handler_id))["steps"]
    assert failed["left_out"] == "The workflow is not served."
    assert failed["input"] is None
    assert failed["error"]["message"] == "'gone'"


class Long(Workflow):
    """Hands on what cannot be compressed, again and again."""

    @step
    async def begin(self, ev: StartEvent) -> Holder:
        return Holder(held=1, text=secrets.token_hex(100_000))

    @step
    async def go_on(self, ev: Holder) -> Holder | StopEvent:
        if ev.held == 16:
            return StopEvent()
        return Holder(held=ev.held + 1, text=secrets.token_hex(100_000))


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_of_a_long_run_the_last_steps_are_kept_and_pages_are_bounded(
    kind: str, tmp_path: Path
) -> None:
    async with (
        FRESH_URLS[kind](tmp_path) as url,
        opened_store(url) as store,
        restarting(store, it=Long(timeout=None)) as restarts,
    ):
        handler = await run(restarts.client, "it")
        pages = [await get_steps(restarts.client, handler["handler_id"])]
        while pages[-1]["next_cursor"] is not None:
            cursor = pages[-1]["next_cursor"]
            pages.append(await get_steps(restarts.client, handler["handler_id"], cursor=cursor))
        packs = await store.read_history(handler["run_id"], after=-1, limit=1_000)
    numbers = [step["input"]["value"]["held"] for page in pages for step in page["steps"]]
    assert {page["dropped"] for page in pages} == {True}
    assert 1 < numbers[0] < 16
    assert numbers == list(range(numbers[0], 17))
    assert sum(len(pack.ticks) for pack in packs) <= MAX_HISTORY_BYTES
    assert all(len(str(page)) < PAGE_BYTES + 2_000_000 for page in pages)
