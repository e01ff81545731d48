"""The published TypeScript client, `@llamaindex/workflows-client`, with every example.

`typescript/drive.mjs` calls the client's functions against the real command, which serves the
examples' folder, and prints what it got; the tests look at that.
"""

import json
import os
import shutil
import subprocess
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from workflows.events import Event
from workflows.representation import get_workflow_representation

from tests.support.command import serving
from tests.support.documents import URL, read_blocks
from tests.support.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("typescript")
QUESTION = "Approve 240.50 € for: Train tickets?"
EXHAUSTED = "the service is down"

Report = dict[str, Any]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the program and the client, as its lock file has it."""
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing and os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{' and '.join(missing)} cannot be found")
    if missing:
        pytest.skip(f"{' and '.join(missing)} cannot be found")
    folder = tmp_path_factory.mktemp("typescript") / "program"
    shutil.copytree(PROGRAM, folder, ignore=shutil.ignore_patterns("node_modules"))
    execute(folder, "npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
    return folder


@pytest.fixture(scope="module")
def report(installed: Path) -> Report:
    """Return what the client got from a server of the examples' folder."""
    # In that folder, for the server keeps its runs in a file where it is started.
    with serving(installed, str(ROOT / "examples")) as server:
        output = execute(installed, "node", "drive.mjs", server.url)
    report: Report = json.loads(output)
    return report


def execute(folder: Path, *command: str) -> str:
    """Run a command to its end and return what it printed."""
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def envelope(name: str, *bases: str, **value: Any) -> dict[str, Any]:
    """Return the envelope of an event of the examples' folder, as the stream carries it."""
    return {"value": value, "type": name, "types": list(bases) or None, "qualified_name": name}


def simplify(event: dict[str, Any]) -> dict[str, Any]:
    """Return an envelope without the name that the loader gave the example's module."""
    return {**event, "qualified_name": event["qualified_name"].rpartition(".")[2]}


def events_of(stream: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a stream that ended without an error."""
    assert stream["errors"] == []
    assert stream["ids"] == sorted(set(stream["ids"]))
    return [simplify(event) for event in stream["events"]]


def result_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a handler that completed."""
    assert (answer["status"], answer["data"]["status"]) == (200, "completed")
    return simplify(answer["data"]["result"])


def test_the_server_is_healthy(report: Report) -> None:
    assert report["health"] == {"status": 200, "data": {"status": "healthy"}}


def test_the_examples_are_listed(report: Report) -> None:
    assert report["workflows"] == {"status": 200, "data": {"workflows": [*EXAMPLES]}}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_workflow_is_described(report: Report, name: str) -> None:
    workflow = EXAMPLES[name]
    start: type[Event] = workflow.start_event_class
    stop: type[Event] = workflow.stop_event_class
    events = sorted(workflow.events, key=lambda event: event.__name__)
    graph = get_workflow_representation(workflow).model_dump(mode="json")
    described = json.dumps(report["descriptions"][name]).replace("workflow_files.", "examples.")
    assert json.loads(described) == {
        "schema": {
            "status": 200,
            "data": {"start": start.model_json_schema(), "stop": stop.model_json_schema()},
        },
        "events": {"status": 200, "data": {"events": [e.model_json_schema() for e in events]}},
        "representation": {"status": 200, "data": {"graph": graph}},
    }


def test_a_greeting_is_waited_for_and_asked_for_again(report: Report) -> None:
    greeting = report["greeting"]
    assert result_of(greeting["ran"]) == envelope("StopEvent", result="Hello, Ada!")
    started_from = greeting["handler"]["data"].pop("start_event")
    assert (started_from["type"], started_from["value"]) == ("Greet", {"name": "Ada"})
    assert greeting["handler"] == greeting["ran"]
    assert greeting["result"] == {
        "status": 200,
        "data": {**greeting["ran"]["data"], "result": "Hello, Ada!"},
    }


def test_tokens_are_followed_to_the_end(report: Report) -> None:
    tokens = report["tokens"]
    started, result = tokens["started"], tokens["result"]
    assert events_of(tokens["all"]) == [
        envelope("Token", text="a"),
        envelope("Token", text="b"),
        envelope("Token", text="c"),
        envelope("Recited", "StopEvent", tokens=3),
    ]
    assert (started["status"], started["data"]["run_id"]) == (200, result["data"]["run_id"])
    assert (result["status"], result["data"]["result"]) == (200, {"tokens": 3})


def test_tokens_are_read_on_after_a_cursor(report: Report) -> None:
    tokens = report["tokens"]
    rest = {part: tokens["all"][part][2:] for part in ("ids", "events", "errors")}
    assert tokens["rest"] == rest


def test_names_of_modules_are_left_out_on_request(report: Report) -> None:
    tokens = report["tokens"]
    unnamed = [{**event, "qualified_name": None} for event in tokens["all"]["events"]]
    assert tokens["unnamed"] == {**tokens["all"], "events": unnamed}


def test_an_approval_waits_for_the_decision(report: Report) -> None:
    approval = report["approval"]
    decided = envelope(
        "Decided", "StopEvent", outcome="approved", purpose="Train tickets", comment="fine"
    )
    waiting = approval["waiting"]
    assert events_of(approval["asked"]) == [
        envelope("ApprovalRequired", "InputRequiredEvent", question=QUESTION)
    ]
    assert (waiting["status"], waiting["data"]["status"]) == (202, "running")
    assert approval["sent"] == {"status": 200, "data": {"status": "sent"}}
    assert events_of(approval["rest"]) == [decided]
    assert result_of(approval["handler"]) == decided


def test_a_decision_may_be_a_json_string(report: Report) -> None:
    assert report["jsonString"]["sent"] == {"status": 200, "data": {"status": "sent"}}
    assert events_of(report["jsonString"]["events"])[-1] == envelope(
        "Decided", "StopEvent", outcome="rejected", purpose="Train tickets", comment=""
    )


def test_a_waiting_approval_is_cancelled_and_purged(report: Report) -> None:
    cancelled = report["cancelled"]
    assert cancelled["cancelled"] == {"status": 200, "data": {"status": "cancelled"}}
    assert events_of(cancelled["events"]) == [
        envelope("ApprovalRequired", "InputRequiredEvent", question=QUESTION),
        envelope("WorkflowCancelledEvent", "StopEvent"),
    ]
    handler = cancelled["handler"]
    assert (handler["status"], handler["error"]["status"]) == (500, "cancelled")
    assert cancelled["purged"] == {"status": 200, "data": {"status": "deleted"}}
    assert (cancelled["gone"]["status"], cancelled["gone"]["error"]["code"]) == (
        404,
        "handler_not_found",
    )


def test_a_pipeline_reports_and_sums_up(report: Report) -> None:
    *progress, summary = events_of(report["pipeline"]["events"])
    counted = [event["value"] for event in progress]
    assert sorted(counted, key=itemgetter("chunk")) == [
        {"chunk": 1, "chunks": 2, "document": "text", "words": 4},
        {"chunk": 2, "chunks": 2, "document": "text", "words": 6},
    ]
    words = ["barrow", "depends", "much", "upon", "wheel"]
    assert summary == envelope(
        "Summary",
        "StopEvent",
        documents=["text"],
        chunks=2,
        words=10,
        most_common=[{"word": word, "count": 1} for word in words],
    )


def test_a_conversation_remembers(report: Report) -> None:
    conversation = report["conversation"]
    first = envelope("Reply", "StopEvent", turn=1, message="I am Ada.", said_before=[])
    second = envelope("Reply", "StopEvent", turn=2, message="Who am I?", said_before=["I am Ada."])
    assert result_of(conversation["first"]) == first
    assert result_of(conversation["second"]) == second


def test_failed_attempts_are_seen_before_the_answer(report: Report) -> None:
    assert events_of(report["flaky"]["events"]) == [
        envelope("AttemptFailed", attempt=1, error="the service is down"),
        envelope("AttemptFailed", attempt=2, error="the service is down"),
        envelope("Answered", "StopEvent", attempts=3, last_error="the service is down"),
    ]


def test_a_failed_run_is_an_error_that_carries_the_handler(report: Report) -> None:
    ran = report["failed"]["ran"]
    assert report["failed"]["handler"]["error"].pop("start_event")["value"] == {"failures": 3}
    assert report["failed"]["handler"] == ran
    assert ran == {
        "status": 500,
        "error": {**ran["error"], "status": "failed", "error": EXHAUSTED, "result": None},
    }


def test_handlers_are_listed_and_filtered(report: Report) -> None:
    failed, some = report["listed"]["failed"], report["listed"]["some"]
    handlers = [report["failed"]["ran"]["error"]]
    assert failed == {"status": 200, "data": {"handlers": handlers, "next_cursor": None}}
    assert some["status"] == 200
    assert [handler["handler_id"] for handler in some["data"]["handlers"]] == ["tokens", "greeting"]


def test_what_is_refused_is_an_error_with_a_code_and_a_sentence(report: Report) -> None:
    refused = report["refused"]
    answers = [refused[name] for name in ("workflow", "startEvent", "ended")]
    assert [
        (answer["status"], answer["error"]["code"], answer["error"]["detail"]) for answer in answers
    ] == [
        (404, "workflow_not_found", "No workflow is registered as 'unknown'."),
        (
            400,
            "invalid_start_event",
            "Greet does not accept the fields: 'name': Field required.",
        ),
        (409, "handler_ended", "The handler 'greeting' has ended: it completed."),
    ]


def test_the_events_of_an_unknown_handler_are_an_error(report: Report) -> None:
    assert report["refused"]["events"] == {
        "ids": [],
        "events": [],
        "errors": ["Error: SSE failed: 404 Not Found"],
    }


def test_the_program_of_the_readme_prints_what_is_shown(installed: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = (block for block in read_blocks(readme) if block.kind == "js")
    with serving(installed, str(ROOT / "examples"), "--store", "memory:") as server:
        text = program.text.replace(URL, server.url)
        (installed / "readme.mjs").write_text(text, encoding="utf-8")
        assert execute(installed, "node", "readme.mjs") == program.output
