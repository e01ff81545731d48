"""The Python client that `openapi-python-client` makes of the document: typed, and it works."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.examples import make_example_server

# The generator takes an older typer than the service, so it has an environment of its own.
LOCK = Path(__file__).with_name("python-generator") / "requirements.lock"
REPORTED = re.compile(r"(\w+\.py):(\d+): error: .*\[([\w-]+)\]")

RIGHT = dedent("""
    import sys

    from service import Client
    from service.api.approval import run_approval_nowait
    from service.api.events import send_event
    from service.api.greeting import run_greeting
    from service.models import (
        ApprovalHandler,
        ApprovalRunRequest,
        Decision,
        Expense,
        Greet,
        GreetingHandler,
        GreetingRunRequest,
        SendEventRequest,
        SentDecision,
        StopEventEnvelope,
    )

    client = Client(base_url=sys.argv[1])

    greeting = run_greeting.sync(
        client=client, body=GreetingRunRequest(start_event=Greet(name="Ada"))
    )
    assert isinstance(greeting, GreetingHandler)
    assert isinstance(greeting.result, StopEventEnvelope)
    print(greeting.result.value.result)

    expense = Expense(purpose="Train tickets", amount=240.5)
    approval = run_approval_nowait.sync(client=client, body=ApprovalRunRequest(start_event=expense))
    assert isinstance(approval, ApprovalHandler)
    decision = SentDecision(type_="Decision", value=Decision(approved=True))
    sent = send_event.sync_detailed(
        approval.handler_id, client=client, body=SendEventRequest(event=decision)
    )
    print(sent.status_code.value)
    """)
WRONG = dedent("""
    from service.models import (
        Decided,
        Decision,
        Expense,
        Greet,
        GreetingHandler,
        GreetingRunRequest,
        SentDecision,
    )

    Greet(nam="Ada")  # call-arg
    Greet(name=1)  # arg-type
    GreetingRunRequest()  # call-arg
    GreetingRunRequest(start_event=Expense(purpose="Train tickets", amount=1))  # arg-type
    SentDecision(type_="Decided", value=Decision(approved=True))  # arg-type
    SentDecision(type_="Decision", value=Decision(approved="yes"))  # arg-type


    def read(handler: GreetingHandler, decided: Decided) -> None:
        print(handler.result.value)  # union-attr
        print(decided.verdict)  # attr-defined
    """)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment that has the generator."""
    folder = tmp_path_factory.mktemp("generator")
    uv, python = Path(sys.executable).with_name("uv"), folder / "bin" / "python"
    run(folder, uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder)
    run(folder, uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", LOCK)
    return python


@pytest.fixture(scope="module")
def folder(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two programs, and the client of a server of all examples."""
    folder = tmp_path_factory.mktemp("generated")
    document = json.dumps(make_example_server().openapi_schema())
    (folder / "openapi.json").write_text(document, encoding="utf-8")
    (folder / "right.py").write_text(RIGHT, encoding="utf-8")
    (folder / "wrong.py").write_text(WRONG, encoding="utf-8")
    generator = python.with_name("openapi-python-client")
    run(
        folder,
        generator,
        "generate",
        "--path",
        "openapi.json",
        "--meta",
        "none",
        "--output-path",
        "service",
    )
    return folder


def run(folder: Path, *command: str | Path) -> str:
    """Run a command to its end, which must be a good one, and return what it printed."""
    result = execute(folder, *command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def execute(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_program_is_checked_against_the_client(python: Path, folder: Path) -> None:
    lines = enumerate(WRONG.splitlines(), 1)
    marked = [(number, line.rpartition("# ")[2]) for number, line in lines if "  # " in line]
    checked = execute(
        folder,
        *(sys.executable, "-m", "mypy", "--strict", "--python-executable", python),
        *("right.py", "wrong.py"),
    )
    reported = REPORTED.findall(checked.stdout)
    assert [(file, int(line), code) for file, line, code in reported] == [
        ("wrong.py", line, code) for line, code in marked
    ]


async def test_a_program_runs_a_workflow_through_the_client(
    python: Path, folder: Path, base_url: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        python, "right.py", base_url, cwd=folder, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode().splitlines() == ["Hello, Ada!", "200"]
