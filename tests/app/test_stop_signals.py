"""Whoever serves the application, a signal ends the process: open streams do not hold it up."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

from tests.app.hosting import GUNICORN, GUNICORN_WORKER, UVICORN, Host, Hosted, hosting
from tests.support.calls import answer, run, start, start_asker, wait_begun, wait_ended
from tests.support.live import open_client
from tests.support.streams import iterate_frames
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.http.stop_signals import StopSignals
from workflow_server.app.server import WorkflowServer

OWN_PROGRAM = """
import asyncio
from tests.app.hosted import server
asyncio.run(server.serve(port={port}))
"""
UVICORNS_OWN = "-Wignore:The `uvicorn.workers` module"

HOSTS = {
    "uvicorn": Host((*UVICORN, "tests.app.hosted:app")),
    "uvicorn on asyncio": Host((*UVICORN, "--loop", "asyncio", "tests.app.hosted:app")),
    "mounted": Host((*UVICORN, "tests.app.hosted:mounted"), "/flows"),
    "mounted with a lifespan": Host((*UVICORN, "tests.app.hosted:mounted_with_lifespan"), "/flows"),
    "mounted and stopped": Host((*UVICORN, "tests.app.hosted:mounted_and_stopped"), "/flows"),
    "gunicorn": Host((*GUNICORN, *GUNICORN_WORKER, "tests.app.hosted:app")),
    "gunicorn, mounted": Host((*GUNICORN, *GUNICORN_WORKER, "tests.app.hosted:mounted"), "/flows"),
    "gunicorn with uvicorn's own worker": Host(
        (UVICORNS_OWN, *GUNICORN, "-k", "uvicorn.workers.UvicornWorker", "tests.app.hosted:app"),
    ),
}
BLOCKED = {
    "own program": Host(("-c", OWN_PROGRAM)),
    **{name: HOSTS[name] for name in ("uvicorn", "mounted", "gunicorn")},
}
HANDLING = Host((*UVICORN, "tests.app.hosted:mounted_with_handlers"), "/flows")


@asynccontextmanager
async def going_on(store: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the next server of a store."""
    server = WorkflowServer(workflow_store=store)
    add_all(server)
    async with open_client(server) as client:
        yield client


async def read_to_end(client: httpx.AsyncClient, handler_id: str, **params: Any) -> list[str]:
    """Return the lines of an event stream once it has ended."""
    query = {"after_sequence": -1, **params}
    async with client.stream("GET", f"/events/{handler_id}", params=query) as response:
        return [line async for line in response.aiter_lines() if line]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("host", HOSTS)
async def test_a_signal_ends_the_process_though_clients_wait_and_the_runs_go_on(
    host: str, number: signal.Signals, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with hosting(HOSTS[host], store) as hosted:
        handler_id = await start_asker(hosted.client)
        query = {"after_sequence": -1}
        async with hosted.client.stream("GET", f"/events/{handler_id}", params=query) as response:
            await anext(iterate_frames(response))
            lines = asyncio.create_task(read_to_end(hosted.client, handler_id, sse="false"))
            body = {"handler_id": "waited"}
            waiting = asyncio.create_task(hosted.client.post("/workflows/asker/run", json=body))
            await wait_begun_as(hosted.client, "waited")
            hosted.signal(number)
            answered, read = await waiting, await lines
            printed = await hosted.wait()
    assert (answered.status_code, answered.json()["code"]) == (503, "run_unfinished")
    assert len(read) == 1
    assert "Traceback" not in printed
    async with going_on(store) as client:
        for each in (handler_id, "waited"):
            assert (await answer(client, each, "yes")).status_code == 200
        ended = [await wait_ended(client, each) for each in (handler_id, "waited")]
    assert [handler["status"] for handler in ended] == ["completed"] * 2


async def wait_begun_as(client: httpx.AsyncClient, handler_id: str) -> None:
    """Return when a run that another request starts has begun."""

    async def accepted() -> bool:
        return (await client.get(f"/handlers/{handler_id}")).status_code != 404

    await until(accepted)
    await wait_begun(client, handler_id)


async def wait_draining(client: httpx.AsyncClient) -> None:
    """Return when the server drains, or nobody listens any more."""

    async def drains() -> bool:
        try:
            return (await client.get("/readyz")).status_code == 503
        except httpx.TransportError:
            return True

    await until(drains)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("host", ["uvicorn", "mounted", "mounted with a lifespan", "gunicorn"])
async def test_a_second_signal_hurries_and_what_it_cuts_off_goes_on(
    host: str, number: signal.Signals, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with hosting(HOSTS[host], store) as hosted:
        body = {"handler_id": "at-work", "start_event": {"seconds": 3600}}
        waiting = asyncio.create_task(hosted.client.post("/workflows/sleeper/run", json=body))
        await wait_begun_as(hosted.client, "at-work")
        idle = await start_asker(hosted.client)
        hosted.signal(number)
        await wait_draining(hosted.client)
        hosted.signal(number, all_at_once=True)
        await asyncio.wait({waiting})
        await hosted.wait()
        waiting.exception()
    async with going_on(store) as client:
        handlers = [(await client.get(f"/handlers/{each}")).json() for each in ("at-work", idle)]
        cancelled = await client.post("/handlers/at-work/cancel")
    assert [(handler["status"], handler["error"]) for handler in handlers] == [
        ("running", None)
    ] * 2
    assert cancelled.json() == {"status": "cancelled"}


@pytest.mark.parametrize("host", ["uvicorn", "mounted", "gunicorn"])
async def test_runs_at_work_get_the_grace_period(host: str, tmp_path: Path) -> None:
    async with hosting(HOSTS[host], f"sqlite:///{tmp_path / 'runs.db'}") as hosted:
        body = {"handler_id": "at-work", "start_event": {"seconds": 1.5}}
        waiting = asyncio.create_task(hosted.client.post("/workflows/sleeper/run", json=body))
        await wait_begun_as(hosted.client, "at-work")
        hosted.signal(signal.SIGTERM)
        handler = (await waiting).json()
        await hosted.wait()
    assert (handler["status"], handler["result"]["value"]) == ("completed", {"result": "slept"})


@pytest.mark.parametrize(("number", "mark"), [(signal.SIGTERM, "python"), (signal.SIGINT, "loop")])
async def test_handlers_of_the_user_still_run(
    number: signal.Signals, mark: str, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with hosting(HANDLING, store, MARKS=str(marks)) as hosted:
        await start_asker(hosted.client)
        hosted.signal(number)
        await until(marks.exists)
        await wait_draining(hosted.client)
        hosted.signal(signal.SIGTERM)  # that of the loop does not end uvicorn
        await hosted.wait()
    written = marks.read_text().split("\n")
    assert written[0] == mark
    assert "given back" in written


@pytest.mark.parametrize("host", ["uvicorn", "mounted"])
async def test_a_handler_from_before_uvicorn_still_runs(host: str, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with hosting(HOSTS[host], store, MARKS=str(marks), EARLY="1") as hosted:
        await start_asker(hosted.client)
        hosted.signal(signal.SIGTERM)
        await hosted.wait()
    assert marks.read_text() == "early\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("host", BLOCKED)
async def test_a_step_that_keeps_the_event_loop_does_not_keep_the_process(
    host: str, number: signal.Signals, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with hosting(BLOCKED[host], store, GRACE="0", MARKS=str(marks)) as hosted:
        await hosted.client.post("/workflows/blocks/run-nowait", json={})
        Path(f"{marks}.go").touch()
        await until(marks.exists)
        # One that comes just before the step begins to sleep is noticed when the next one comes.
        asking = asyncio.create_task(ask_again(hosted, number))
        printed = await hosted.wait()
        asking.cancel()
    assert "event loop is blocked, and the process is ended" in printed


async def ask_again(hosted: Hosted, number: signal.Signals) -> None:
    """Send a signal now and then, as whoever waits for the end of a process does."""
    with suppress(ProcessLookupError):  # it has ended
        while True:
            hosted.signal(number)
            await asyncio.sleep(15)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("host", BLOCKED)
async def test_a_step_in_a_thread_does_not_keep_the_process(
    host: str, number: signal.Signals, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with hosting(BLOCKED[host], store, GRACE="0", MARKS=str(marks)) as hosted:
        await hosted.client.post("/workflows/threaded/run-nowait", json={})
        await until(marks.exists)
        hosted.signal(number)
        await hosted.wait()


# In this process.


class Recording:
    """Server that writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def drain(self, grace: float) -> None:
        """Note it."""
        self.asked.append(f"drain {grace:g}")

    def dismiss(self) -> None:
        """Note it."""
        self.asked.append("dismiss")


Handled = list[int]


@pytest.fixture
def handled() -> Any:
    """Return the signals that a handler of the user's gets, while it is there."""
    got: Handled = []

    def handle(number: int, frame: FrameType | None) -> None:
        got.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    yield got
    signal.signal(signal.SIGTERM, before)


async def test_nothing_is_hooked_outside_of_the_main_thread(handled: Handled) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    results: list[list[Any]] = []

    async def serve() -> None:
        server = WorkflowServer()
        async with server.contextmanager():
            results.append([signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert results == [before]


async def test_a_signal_that_nobody_handles_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with WorkflowServer().contextmanager():
        during = signal.getsignal(signal.SIGTERM)
    assert (before, during) == (signal.SIG_DFL, signal.SIG_DFL)


async def test_what_was_there_is_called_at_once_and_given_back(handled: Handled) -> None:
    before = signal.getsignal(signal.SIGTERM)
    recording = Recording()
    signals = StopSignals(recording, grace=3)
    signals.hook()
    signal.raise_signal(signal.SIGTERM)
    assert handled == [signal.SIGTERM]
    await until(lambda: "drain 3" in recording.asked)
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: "dismiss" in recording.asked)
    signals.give_back()
    assert signal.getsignal(signal.SIGTERM) is before
    assert recording.asked == ["drain 3", "dismiss"]


async def test_what_was_there_is_called_after_the_stop_where_nobody_else_stops(
    handled: Handled,
) -> None:
    recording = Recording()
    signals = StopSignals(recording, grace=3)
    stopped: list[int] = []

    async def stop() -> None:
        stopped.append(len(handled))
        signals.give_back()

    signals.hook(stop=stop)
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: bool(handled))
    assert stopped == [0]
    assert recording.asked == ["drain 3"]


async def test_servers_that_come_and_go_in_any_order_leave_nothing_behind(
    handled: Handled,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    hooks = [StopSignals(Recording(), grace=3) for _ in range(10)]
    hooks[0].hook()
    for earlier, later in pairwise(hooks):
        later.hook()
        earlier.give_back()
        assert later.find_previous(signal.SIGTERM) is before
    hooks[-1].give_back()
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_handler_that_was_put_over_ours_is_kept(handled: Handled) -> None:
    signals = StopSignals(Recording(), grace=3)
    signals.hook()
    over = signal.getsignal(signal.SIGTERM)
    calls: Handled = []

    def handle(number: int, frame: FrameType | None) -> None:
        calls.append(number)
        assert callable(over)
        over(number, frame)

    signal.signal(signal.SIGTERM, handle)
    signals.give_back()
    assert signal.getsignal(signal.SIGTERM) is handle
    signal.raise_signal(signal.SIGTERM)
    assert (calls, handled) == ([signal.SIGTERM], [signal.SIGTERM])


async def test_a_server_runs_after_its_signals_were_given_back(handled: Handled) -> None:
    server = WorkflowServer()
    add_all(server)
    async with open_client(server) as client:
        assert (await run(client, "echo"))["status"] == "completed"
        await start(client, "sleeper", seconds=0)
    assert handled == []
