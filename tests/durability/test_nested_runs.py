"""Runs that a step starts itself, and that end what they should not: the step fails, or nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.durability import nested
from tests.durability.test_unruly_steps import LOOPS, read_log
from tests.support.command import serving
from tests.support.waiting import DEADLINE

FLOWS = str(Path(nested.__file__))
WHERE = ("made here", "served")
FAILING = [
    *((where, kind) for where in WHERE for kind in (*nested.RAISED, "await_task")),
    *((where, "cancel_itself") for where in WHERE),
    *((f"{where}, in policy", "") for where in WHERE),
    ("made here, in thread", ""),
]
SENTENCES = "asked the process to end|raised GeneratorExit|nobody cancelled it"


@pytest.fixture(scope="module", params=LOOPS)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of one server for all tests of the module, which it has to live through."""
    folder = tmp_path_factory.mktemp("nested")
    flags = ("--loop", request.param, "--store", f"sqlite:///{folder}/runs.db")
    with (
        serving(folder, FLOWS, *flags) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE) as client,
    ):
        yield client
        server.process.terminate()
        assert "event loop was ended" not in read_log(server.process)


@pytest.mark.parametrize(("where", "kind"), FAILING)
def test_a_step_fails_whose_own_run_ends_what_it_should_not(
    client: httpx.Client, where: str, kind: str
) -> None:
    body = {"start_event": {"where": where, "kind": kind}}
    failed = client.post("/workflows/awaits/run", json=body).json()
    assert failed["status"] == "failed"
    assert re.search(SENTENCES, failed["error"])


@pytest.mark.parametrize(("where", "kind"), [*FAILING, *((where, "task") for where in WHERE)])
def test_a_run_that_a_step_leaves_behind_ends_nothing(
    client: httpx.Client, where: str, kind: str
) -> None:
    body = {"start_event": {"where": where, "kind": kind}}
    left = client.post("/workflows/leaves/run", json=body).json()
    assert left["status"] == "completed"
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("kind", [*nested.RAISED, "await_task", "cancel_itself"])
def test_a_step_fails_whose_own_run_in_a_loop_of_its_own_ends_what_it_should_not(
    client: httpx.Client, kind: str
) -> None:
    failed = client.post("/workflows/apart/run", json={"start_event": {"kind": kind}}).json()
    assert failed["status"] == "failed"
    expected = {
        "generator_exit": "GeneratorExit",
        "cancelled": "WorkflowTimeoutError",
        "cancel_itself": "WorkflowTimeoutError",
    }
    assert failed["failure"]["type"] == expected.get(kind, "WorkflowRuntimeError")
