"""Steps that heed no cancellation: nobody waits for them, and nothing of what they do is kept."""

import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.durability import unruly
from tests.durability.test_unruly_steps import LOOPS, read_log, served, start, wait_ended
from tests.support.waiting import DEADLINE
from workflow_server.app.engine.steps import CANCEL_PATIENCE

MARGIN = DEADLINE / 2  # seconds, for a machine that is busy; without a bound it is for ever


def list_types(client: httpx.Client, handler_id: str) -> list[str]:
    """Return the types of all events of a handler."""
    answer = client.get(f"/events/{handler_id}?after_sequence=-1&sse=false")
    return [line.partition('"type":"')[2].partition('"')[0] for line in answer.iter_lines()]


def count_rows(folder: Path, handler_id: str) -> int:
    """Return how many rows of the store belong to a handler's runs."""
    with sqlite3.connect(folder / "runs.db") as database:
        found = database.execute("SELECT count(*) FROM runs WHERE handler_id = ?", [handler_id])
        count: int = found.fetchone()[0]
        return count


def wait_for(file: Path) -> None:
    """Return when a file is there."""
    deadline = time.monotonic() + DEADLINE
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(unruly.PAUSE)


def start_again(client: httpx.Client, handler_id: str, until: Path) -> dict[str, Any]:
    """Run a handler again to its end, and return it."""
    until.touch()
    fields = {"kind": "swallow", "until": str(until)}
    answer = client.post(
        "/workflows/stubborn/run", json={"handler_id": handler_id, "start_event": fields}
    )
    handler: dict[str, Any] = answer.json()
    return handler


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancel_is_answered_and_nothing_more_is_written(loop: str, tmp_path: Path) -> None:
    with served(tmp_path, loop) as (_, client), ThreadPoolExecutor() as threads:
        never = str(tmp_path / "never")
        handlers = [start(client, "stubborn", kind, never) for kind in unruly.STUBBORN]
        began = time.monotonic()
        paths = [f"/handlers/{handler_id}/cancel" for handler_id in handlers]
        answers = [answer.json() for answer in threads.map(client.post, paths)]
        seconds = time.monotonic() - began
        types = [list_types(client, handler_id) for handler_id in handlers]
        other = client.post("/workflows/sleeps/run", json={}).json()
        later = [list_types(client, handler_id) for handler_id in handlers]
        again = [start_again(client, handler_id, tmp_path / "until") for handler_id in handlers]
    assert answers == [{"status": "cancelled"}] * len(handlers)
    assert seconds < CANCEL_PATIENCE + MARGIN
    assert later == types
    assert {each[-1] for each in types} == {"WorkflowCancelledEvent"}
    assert {handler["status"] for handler in [other, *again]} == {"completed"}


def test_a_purge_leaves_nothing_though_the_step_goes_on(tmp_path: Path) -> None:
    with served(tmp_path) as (_, client):
        handler_id = start(client, "stubborn", "swallow", str(tmp_path / "never"))
        answer = client.post(f"/handlers/{handler_id}/cancel?purge=true")
        client.post("/workflows/sleeps/run", json={})
        found = client.get(f"/handlers/{handler_id}")
        rows = count_rows(tmp_path, handler_id)
    assert answer.json() == {"status": "deleted"}
    assert (found.status_code, rows) == (404, 0)


def test_a_timeout_ends_a_run_whose_step_goes_on(tmp_path: Path) -> None:
    with served(tmp_path) as (_, client):
        handler_id = start(client, "hasty", "swallow", str(tmp_path / "never"))
        handler = wait_ended(client, handler_id)
    assert (handler["status"], "timed out" in handler["error"]) == ("failed", True)


def test_a_run_ends_though_another_step_of_it_goes_on(tmp_path: Path) -> None:
    with served(tmp_path) as (_, client):
        fields = {"kind": "", "until": str(tmp_path / "never")}
        handler = client.post("/workflows/overtaken/run", json={"start_event": fields}).json()
    assert handler["result"]["value"]["result"] == "ended"


def test_a_step_that_goes_on_keeps_the_slot_of_its_run_until_it_ends(tmp_path: Path) -> None:
    until = tmp_path / "until"
    with served(tmp_path) as (server, client):
        handler_id = start(client, "single", "swallow", str(until))
        client.post(f"/handlers/{handler_id}/cancel")
        fields = {"kind": "swallow", "until": str(until)}
        body = {"handler_id": handler_id, "start_event": fields}
        queued = client.post("/workflows/single/run-nowait", json=body).json()
        waiting = client.get(f"/handlers/{handler_id}").json()
        until.touch()
        ended = wait_ended(client, handler_id)
        server.process.terminate()
        log = read_log(server.process)
    assert (queued["phase"], waiting["phase"]) == ("queued", "queued")
    assert ended["status"] == "completed"
    assert log.count("steps go on after the end of their run") == 1


@pytest.mark.parametrize(
    ("workflow", "flags", "status"),
    [
        ("threaded_single", (), "cancelled"),
        ("threaded", ("--max-runs", "1"), "cancelled"),
        ("threaded_hasty", (), "failed"),
    ],
)
def test_a_step_in_a_thread_keeps_the_slot_of_its_run_until_it_ends(
    workflow: str, flags: Sequence[str], status: str, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    body = {"start_event": {"kind": "", "until": str(until)}}
    path = f"/workflows/{workflow}/run-nowait"
    with served(tmp_path, more=flags) as (server, client):
        first = client.post(path, json=body).json()["handler_id"]
        wait_for(Path(f"{until}.begun"))
        if status == "cancelled":
            client.post(f"/handlers/{first}/cancel")
        ended = wait_ended(client, first)
        second = client.post(path, json=body).json()
        waiting = client.get(f"/handlers/{second['handler_id']}").json()
        until.touch()
        done = wait_ended(client, second["handler_id"])
        server.process.terminate()
        log = read_log(server.process)
    assert ended["status"] == status
    assert (second["phase"], waiting["phase"]) == ("queued", "queued")
    assert done["result"]["value"]["result"] == "not cancelled"
    assert log.count("steps go on after the end of their run") == 1


@pytest.mark.parametrize(
    ("kind", "loop"), [("swallow", "asyncio"), *((kind, "uvloop") for kind in unruly.STUBBORN)]
)
def test_a_signal_ends_the_process_and_the_run_goes_on_at_the_next_start(
    kind: str, loop: str, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    with served(tmp_path, loop, grace=1) as (server, client):
        handler_id = start(client, "stubborn", kind, str(until))
        began = time.monotonic()
        server.process.terminate()
        read_log(server.process)
        seconds = time.monotonic() - began
    until.touch()
    with served(tmp_path, loop) as (_, client):
        handler = wait_ended(client, handler_id)
    assert server.process.returncode == 0
    assert seconds < 1 + 2 * MARGIN
    assert handler["result"]["value"]["result"] == "not cancelled"


def test_a_signal_ends_the_process_though_a_cancelled_step_goes_on(tmp_path: Path) -> None:
    with served(tmp_path, grace=600) as (server, client):
        handler_id = start(client, "stubborn", "swallow", str(tmp_path / "never"))
        client.post(f"/handlers/{handler_id}/cancel")
        server.process.terminate()
        log = read_log(server.process)
    assert server.process.returncode == 0
    assert "tasks that do not end are left behind" in log


@pytest.mark.parametrize("loop", LOOPS)
def test_a_step_in_a_thread_keeps_neither_a_cancel_nor_the_process(
    loop: str, tmp_path: Path
) -> None:
    fields = {"kind": "", "until": str(tmp_path / "never")}
    with served(tmp_path, loop, grace=0) as (server, client):
        started = client.post("/workflows/threaded/run-nowait", json={"start_event": fields})
        handler_id = started.json()["handler_id"]
        answer = client.post(f"/handlers/{handler_id}/cancel")
        client.post("/workflows/threaded/run-nowait", json={"start_event": fields})
        server.process.terminate()
        read_log(server.process)
    assert answer.json() == {"status": "cancelled"}
    assert server.process.returncode == 0
