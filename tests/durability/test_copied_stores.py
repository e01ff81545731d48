"""A server over a copy of a store goes on with all that the server before it had."""

from itertools import product
from pathlib import Path

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.durability.restarts import OffsetClock, restarting
from tests.durability.test_queue import Recording
from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.calls import answer, result_of, start, wait_ended, wait_phase
from tests.support.streams import read_frames
from tests.support.waiting import until
from tests.support.workflows import Answer, Asker, Counter, Failer
from workflow_server.stores.copying import Side, copy_runs

PAGES = ("", "/steps", "/runs")
OPTIONS = {"keep_history": True}


class Patient(Workflow):
    """Waits for an answer for an hour."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Answer, timeout=3600)
        except TimeoutError:
            return StopEvent(result="nobody answered")
        return StopEvent(result="answered")


@pytest.mark.parametrize("how", ["stop", "crash"])
@pytest.mark.parametrize("pair", [*product(DURABLE, DURABLE)], ids=lambda pair: " to ".join(pair))
async def test_runs_go_on_where_they_were(
    pair: tuple[str, str], how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = OffsetClock()
    clock.install(monkeypatch)
    began: list[int] = []
    queuer = Recording(began, num_concurrent_runs=1)
    async with (
        FRESH_URLS[pair[0]](tmp_path / "from") as source,
        FRESH_URLS[pair[1]](tmp_path / "to") as target,
    ):
        async with (
            opened_store(source) as store,
            restarting(store, options=OPTIONS, **make_workflows(queuer)) as restarts,
        ):
            client = restarts.client
            for name in ("counter", "failer"):
                await start(client, name, name)
                await wait_ended(client, name)
            for name in ("asker", "patient"):
                await start(client, name, name)
                await wait_phase(client, name, "waiting")
            for number in range(4):
                await start(client, "queuer", f"q{number}", number=number)
            await until(lambda: began == [0])
            shown = await show(client)
            await getattr(restarts, how)()
        async with opened_store(source) as store, opened_store(target) as copy:
            copied = await copy_runs(Side(store, "a"), Side(copy, "b"), progress=lambda _: None)
        assert copied.runs == 8
        began.clear()
        clock.advance(3601)
        queuer = Recording(began, num_concurrent_runs=1)
        workflows = make_workflows(queuer)
        async with (
            opened_store(target) as store,
            restarting(store, options=OPTIONS, **workflows) as restarts,
        ):
            client = restarts.client
            assert await show(client) == shown
            assert await result_of(client, "patient") == "nobody answered"
            sent = await answer(client, "asker", "here")
            assert sent.status_code == 200, sent.text
            assert await result_of(client, "asker") == ["here"]
            queuer.opened.set()
            for number in range(4):
                assert await result_of(client, f"q{number}") == number
            assert began == [0, 1, 2, 3]


def make_workflows(queuer: Recording) -> dict[str, Workflow]:
    """Return the workflows of the runs."""
    return {
        "counter": Counter(),
        "failer": Failer(),
        "asker": Asker(timeout=None),
        "patient": Patient(timeout=None),
        "queuer": queuer,
    }


async def show(client: httpx.AsyncClient) -> list[str]:
    """Return all that is shown of the runs that have ended."""
    shown = []
    for name in ("counter", "failer"):
        shown += [(await client.get(f"/handlers/{name}{page}")).text for page in PAGES]
        frames = await read_frames(client, name, after_sequence=-1, include_internal=True)
        shown.append(repr(frames))
    return shown
