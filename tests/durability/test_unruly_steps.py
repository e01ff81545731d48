"""Steps that end what they should not: each fails its own run, and the server serves on."""

import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.durability import unruly
from tests.support.command import RunningServer, run_command, serving, write
from tests.support.waiting import DEADLINE

FLOWS = str(Path(unruly.__file__))
LOOPS = ("asyncio", "uvloop")

Served = tuple[RunningServer, httpx.Client]


@contextmanager
def served(
    folder: Path, loop: str = "uvloop", grace: float = 1, more: Sequence[str] = ()
) -> Iterator[Served]:
    """Serve what is unruly, and yield a client of it."""
    flags = ("--loop", loop, "--store", f"sqlite:///{folder}/runs.db")
    grace_flags = ("--shutdown-timeout", str(grace))
    with (
        serving(folder, FLOWS, *flags, *grace_flags, *more) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE) as client,
    ):
        yield server, client


@pytest.fixture(scope="module", params=LOOPS)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of one server for all tests of the module, which it has to live through."""
    with served(tmp_path_factory.mktemp("unruly"), request.param) as (server, client):
        assert server.process.stdout is not None
        # Else the server would wait for somebody to read its log.
        threading.Thread(target=server.process.stdout.read, daemon=True).start()
        yield client


def run(client: httpx.Client, workflow: str, kind: str = "") -> dict[str, Any]:
    """Run a workflow to its end, and return its handler."""
    fields = {"kind": kind}
    answer = client.post(f"/workflows/{workflow}/run", json={"start_event": fields})
    handler: dict[str, Any] = answer.json()
    return handler


def start(client: httpx.Client, workflow: str, kind: str = "", until: str = "") -> str:
    """Start a run, and return its handler's id once its step is at work."""
    fields = {"kind": kind, "until": until}
    answer = client.post(f"/workflows/{workflow}/run-nowait", json={"start_event": fields})
    handler_id: str = answer.json()["handler_id"]
    with client.stream("GET", f"/events/{handler_id}?after_sequence=-1") as response:
        next(line for line in response.iter_lines() if line.startswith("data: "))
    return handler_id


def read_log(process: subprocess.Popen[str]) -> str:
    """Return what a process that ends logs until then."""
    log, _ = process.communicate(timeout=DEADLINE)
    return log


SENTENCES = {
    "keyboard_interrupt": r"asked the process to end: KeyboardInterrupt\(\)",
    "system_exit": r"asked the process to end: SystemExit\(\)",
    "generator_exit": r"The step raised GeneratorExit",
    "odd": r"The step raised Odd",
    "cancelled": r"raised CancelledError; nobody cancelled it",
    "group": r"The step raised BaseExceptionGroup",
    "cancel_itself": r"raised CancelledError; nobody cancelled it",
    "cancel_itself_and_end": r"raised CancelledError; nobody cancelled it",
    "await_cancelled": r"raised CancelledError; nobody cancelled it",
    "cancel_its_run": r"Code in the server's process cancelled the run",
    "await_task": r"asked the process to end: SystemExit\('in a task'\)",
    "await_group": r"asked the process to end: KeyboardInterrupt\(\)|ExceptionGroup",
    "exhaust": r"RecursionError",
    "fill": r"MemoryError|OverflowError",
}


@pytest.mark.parametrize("kind", unruly.FAILING)
def test_what_a_step_raises_fails_its_run_alone(client: httpx.Client, kind: str) -> None:
    other = start(client, "sleeps")
    failed = run(client, "fails", kind)
    assert (failed["status"], failed["phase"]) == ("failed", "ended")
    assert re.search(SENTENCES[kind], f"{failed['failure']['type']}: {failed['error']}")
    assert wait_ended(client, other)["status"] == "completed"
    assert client.get("/readyz").status_code == 200


def wait_ended(client: httpx.Client, handler_id: str) -> dict[str, Any]:
    """Return a handler once the stream of its run has ended."""
    client.get(f"/events/{handler_id}?after_sequence=-1")
    handler: dict[str, Any] = client.get(f"/handlers/{handler_id}").json()
    return handler


@pytest.mark.parametrize(
    ("workflow", "kind"),
    [
        ("fails_in_thread", "keyboard_interrupt"),
        ("fails_in_thread", "system_exit"),
        ("fails_in_policy", ""),
        ("fails_in_result", ""),
    ],
)
def test_what_code_around_a_step_raises_fails_its_run_alone(
    client: httpx.Client, workflow: str, kind: str
) -> None:
    failed = run(client, workflow, kind)
    assert failed["status"] == "failed"
    assert re.search("KeyboardInterrupt|SystemExit|cannot be", failed["error"])
    assert run(client, "sleeps")["status"] == "completed"


def test_what_a_value_of_the_state_raises_keeps_the_run_from_being_resumed_and_no_more(
    client: httpx.Client,
) -> None:
    ended = run(client, "fails_in_state")
    assert (ended["status"], ended["resumable"]) == ("completed", False)


@pytest.mark.parametrize("kind", unruly.LEFT)
def test_what_a_step_leaves_behind_ends_nothing(client: httpx.Client, kind: str) -> None:
    assert run(client, "leaves", kind)["status"] == "completed"
    assert run(client, "sleeps")["status"] == "completed"
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("text", ["leave", "interrupt", "cancel"])
def test_what_a_validator_raises_fails_its_request_alone(client: httpx.Client, text: str) -> None:
    waiting = start_checks(client)
    fields = {"text": text}
    answers = [
        client.post("/workflows/checks/run", json={"start_event": fields}),
        client.post(
            f"/events/{waiting}", json={"event": {"type": "CheckedAnswer", "value": fields}}
        ),
    ]
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(500, "internal_error")] * 2
    assert client.post(f"/handlers/{waiting}/cancel").json() == {"status": "cancelled"}


def start_checks(client: httpx.Client) -> str:
    """Start a run that waits for an answer, and return its handler's id."""
    answer = client.post("/workflows/checks/run-nowait", json={"start_event": {"text": "a"}})
    handler_id: str = answer.json()["handler_id"]
    return handler_id


@pytest.mark.parametrize(
    "path",
    [
        "/workflows/checks/schema",
        "/workflows/checks/events",
        "/workflows/checks/representation",
        "/openapi.json",
    ],
)
def test_a_class_whose_schema_cannot_be_made_is_described_all_the_same(
    client: httpx.Client, path: str
) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_left_behind_is_logged_with_the_ids_of_its_run(loop: str, tmp_path: Path) -> None:
    with served(tmp_path, loop) as (server, client):
        left = run(client, "leaves", "task")
        run(client, "leaves", "thread")
        run(client, "leaves", "exiting_thread")
        run(client, "leaves", "callback")
        server.process.terminate()
        log = read_log(server.process)
    lines = log.splitlines()
    (task,) = [line for line in lines if "task of a step asked the process to end" in line]
    threads = [line for line in lines if "thread was ended by an exception" in line]
    (ended,) = [line for line in lines if "event loop was ended" in line]
    assert left["run_id"] in task
    assert "unruly.py" in task
    assert len(threads) == 2
    assert "SystemExit" in ended
    assert "unruly.py" in ended
    assert server.process.returncode == 0


@pytest.mark.parametrize("kind", unruly.SIGNALS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_signal_of_a_step_stops_the_server_in_order(loop: str, kind: str, tmp_path: Path) -> None:
    with served(tmp_path, loop, grace=10) as (server, client):
        signalling = start(client, "signals", kind)
        log = read_log(server.process)
    assert server.process.returncode == 0
    assert "draining" in log
    with served(tmp_path, loop) as (_, client):
        ended = client.get(f"/handlers/{signalling}").json()
    assert ended["result"]["value"]["result"] == "ended in order"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_process_whose_tasks_are_all_cancelled_ends_and_says_so(
    loop: str, tmp_path: Path
) -> None:
    with served(tmp_path, loop) as (server, client):
        client.post("/workflows/cancels_all/run-nowait", json={})
        log = read_log(server.process)
    assert server.process.returncode == 1
    assert "server was cancelled by code in its process" in log


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
def test_a_file_that_asks_the_process_to_end_is_told_in_a_sentence(
    error: str, tmp_path: Path
) -> None:
    write(tmp_path / "flows.py", f"raise {error}")
    ended = run_command(tmp_path, "serve", "flows.py")
    assert ended.returncode == 2
    assert ended.stderr == (
        f"Error: flows.py, line 1, fails to import ({error}): put what ends the process under"
        ' `if __name__ == "__main__":`.\n'
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_that_keeps_the_event_loop_does_not_keep_the_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    with served(tmp_path, grace=0) as (server, client):
        start(client, "blocks", until=str(blocked))
        server.process.send_signal(number)
        log = read_log(server.process)
    assert server.process.returncode == 1
    assert "process does not end by itself" in log
