"""The real command: what it prints, what it serves, how it refuses, how it ends."""

import json
import signal
import socket
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.command import COMMAND, RunningServer, run_command, serving, write, write_echo
from tests.support.waiting import DEADLINE
from workflow_server.app.commands.stores import describe_store
from workflow_server.routers.ui import find_remedy

ROOT = Path(__file__).parents[2]


def call(server: RunningServer, workflow: str, **start_event: Any) -> dict[str, Any]:
    """Run a workflow to its end and return the handler."""
    body = {"start_event": start_event}
    answer = httpx.post(f"{server.url}/workflows/{workflow}/run", json=body)
    assert answer.status_code == 200, answer.text
    handler: dict[str, Any] = answer.json()
    return handler


def show_page(server: RunningServer) -> str:
    """Return the line about the web UI, which need not be built here."""
    remedy = find_remedy()
    return f"Web page:  not built; {remedy}" if remedy else f"Web page:  {server.url}/"


class TestServing:
    def test_what_is_served_is_printed_with_where_it_is_from_and_where_it_is(
        self, tmp_path: Path
    ) -> None:
        write_echo(tmp_path / "flows/greet.py", "hello = Echo()", "more = {'good-bye': Echo()}")
        write_echo(tmp_path / "other.py", "other = Echo()")
        with serving(tmp_path, "flows", "other") as server:
            assert server.lines == (
                f"Serving 3 workflows on {server.url}",
                "  good-bye  flows/greet.py",
                "  hello     flows/greet.py",
                "  other     other",
                show_page(server),
                f"API pages: {server.url}/docs and {server.url}/redoc, "
                f"made from {server.url}/openapi.json",
                "Runs are kept in sqlite:///workflow-server.db",
            )
            assert server.url.startswith("http://127.0.0.1:")

    def test_the_printed_addresses_answer(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        with serving(tmp_path, "flows.py") as server:
            paths = ("/docs", "/redoc", "/openapi.json", "/health")
            assert [httpx.get(server.url + path).status_code for path in paths] == [200] * 4

    def test_who_connects_as_soon_as_an_address_is_printed_is_served(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        command = [COMMAND, "serve", "--port", "0", "--store", "memory:", "flows.py"]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            try:
                assert httpx.get(f"{url}/health").json() == {"status": "healthy"}
            finally:
                process.terminate()

    def test_files_may_have_the_names_of_our_packages(self, tmp_path: Path) -> None:
        for name in ("app", "schemas", "stores", "routers", "workflows", "json"):
            write_echo(tmp_path / f"{name}.py", f"from_{name} = Echo()")
        with serving(tmp_path, ".") as server:
            assert call(server, "from_app", words="a")["result"]["value"] == {"words": "a"}
            assert len(httpx.get(f"{server.url}/workflows").json()["workflows"]) == 6

    @pytest.mark.parametrize("folder", ["here", "there/deep"])
    def test_an_event_has_the_same_qualified_name_wherever_its_file_lies(
        self, folder: str, tmp_path: Path
    ) -> None:
        write_echo(tmp_path / folder / "flows.py", "echo = Echo()")
        with serving(tmp_path, f"{folder}/flows.py") as server:
            result = call(server, "echo", words="a")["result"]
        assert result["qualified_name"] == "workflow_files.flows.Answered"

    def test_a_variable_sets_what_no_flag_sets(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        with serving(tmp_path, "flows.py", WORKFLOW_SERVER_MAX_BODY_SIZE="10") as server:
            answer = httpx.post(f"{server.url}/workflows/echo/run", json={"kwargs": {}})
        assert answer.status_code == 413

    def test_a_flag_wins_over_a_variable(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        flags = ("--max-body-size", "100")
        with serving(tmp_path, "flows.py", *flags, WORKFLOW_SERVER_MAX_BODY_SIZE="10") as server:
            assert call(server, "echo", words="a")["status"] == "completed"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_with_status_0(self, number: signal.Signals, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        with serving(tmp_path, "flows.py") as server:
            server.process.send_signal(number)
            assert server.process.wait(timeout=DEADLINE) == 0


class TestServersOfTheUsersOwn:
    LINES = (
        "from workflow_server import WorkflowServer",
        "from starlette.middleware import Middleware",
        "from starlette.middleware.gzip import GZipMiddleware",
        "unserved = Echo()",
        "mine = WorkflowServer(middleware=[Middleware(GZipMiddleware, minimum_size=1)])",
        "mine.add_workflow('echo', Echo())",
    )

    def test_it_is_served_as_it_is_made_with_what_other_files_add(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "app.py", *self.LINES)
        write_echo(tmp_path / "flows.py", "other = Echo()")
        with serving(tmp_path, "app.py", "flows.py") as server:
            answer = httpx.get(f"{server.url}/workflows")
            assert answer.headers["content-encoding"] == "gzip"
            assert answer.json() == {"workflows": ["echo", "other"]}
            assert server.lines[1:3] == ("  echo   app.py", "  other  flows.py")
            assert server.lines[-1] == "Runs are kept as app.py says."

    def test_a_flag_that_it_would_not_heed_is_refused(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "app.py", *self.LINES)
        result = run_command(tmp_path, "serve", "app.py", "--idle-timeout", "3")
        assert (result.returncode, result.stderr) == (
            2,
            "Error: app.py makes its own WorkflowServer, which no flag for idle_timeout changes: "
            "leave the flag out, and set idle_timeout in app.py.\n",
        )

    def test_two_of_them_are_refused(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "app.py", *self.LINES)
        write_echo(tmp_path / "more.py", *self.LINES)
        result = run_command(tmp_path, "serve", ".")
        assert (result.returncode, result.stderr) == (
            2,
            "Error: Both app.py and more.py make a WorkflowServer: "
            "serve them apart, or make one server of them.\n",
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (
                [],
                "There is nothing to serve: give a .py file, a folder of them, or "
                "package.module[:name], as in `workflow-server serve flows.py`.",
            ),
            (
                ["none.py"],
                "There is no file or folder none.py: give a .py file, a folder of them, or "
                "package.module[:name].",
            ),
            (
                ["failing.py"],
                "failing.py, line 1, fails to import (ZeroDivisionError: division by zero): "
                "mend the file and start again.",
            ),
            (
                ["flows.py", "twin.py"],
                "Both flows.py and twin.py hold a workflow called echo: rename one of them.",
            ),
            (
                ["app:echo"],
                "There is no file, folder or module app:echo: give a .py file, a folder of them, "
                "or package.module[:name].",
            ),
            (
                ["flows.py", "--port", "65536"],
                "--port cannot be 65536: Input should be less than or equal to 65535. "
                "It is: Port to listen on; 0 takes a free one.",
            ),
            (
                ["flows.py", "--host", "192.0.2.1"],
                "192.0.2.1 is no address of this machine: "
                "give one with --host, such as 127.0.0.1 or 0.0.0.0.",
            ),
        ],
    )
    def test_a_mistake_is_told_in_one_sentence_with_status_2(
        self, arguments: list[str], sentence: str, tmp_path: Path
    ) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        write_echo(tmp_path / "twin.py", "echo = Echo()")
        write(tmp_path / "failing.py", "1 / 0")

        result = run_command(tmp_path, "serve", *arguments)

        assert (result.returncode, result.stdout, result.stderr) == (2, "", f"Error: {sentence}\n")

    def test_a_bad_variable_is_told_by_its_name(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        result = run_command(tmp_path, "serve", "flows.py", WORKFLOW_SERVER_IDLE_TIMEOUT="soon")
        assert result.returncode == 2
        assert result.stderr.startswith("Error: WORKFLOW_SERVER_IDLE_TIMEOUT cannot be 'soon': ")
        assert len(result.stderr.splitlines()) == 1

    @pytest.mark.parametrize(
        ("lines", "flags", "beginning"),
        [
            ("flows = {'a/b': Echo()}", [], "flows.py cannot be served: "),
            ("echo = Echo()", ["--store", "nowhere:"], ""),
        ],
    )
    def test_what_the_server_refuses_is_told_in_one_line(
        self, lines: str, flags: list[str], beginning: str, tmp_path: Path
    ) -> None:
        write_echo(tmp_path / "flows.py", lines)
        result = run_command(tmp_path, "serve", "flows.py", *flags)
        assert result.returncode == 2
        assert result.stderr.startswith(f"Error: {beginning}")
        assert len(result.stderr.splitlines()) == 1

    def test_a_port_in_use_is_told_with_the_flag_for_another(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run_command(tmp_path, "serve", "flows.py", "--port", str(port))
        assert (result.returncode, result.stderr) == (
            2,
            f"Error: Port {port} of 127.0.0.1 is in use: end what listens there, "
            "or give another port with --port.\n",
        )

    def test_debug_shows_the_traceback_before_the_sentence(self, tmp_path: Path) -> None:
        write(tmp_path / "failing.py", "1 / 0")
        result = run_command(tmp_path, "serve", "failing.py", "--debug")
        assert result.returncode == 2
        assert "ZeroDivisionError: division by zero\n" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("Error: failing.py, line 1, fails to")

    def test_debug_can_be_set_by_a_variable(self, tmp_path: Path) -> None:
        write(tmp_path / "failing.py", "1 / 0")
        result = run_command(tmp_path, "openapi", "failing.py", WORKFLOW_SERVER_DEBUG="1")
        assert result.returncode == 2
        assert "Traceback" in result.stderr


class TestOpenApi:
    def test_the_document_is_printed(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        result = run_command(tmp_path, "openapi", "flows.py")
        assert (result.returncode, result.stderr) == (0, "")
        assert "/handlers/{handler_id}" in json.loads(result.stdout)["paths"]

    def test_it_is_the_one_that_the_server_answers_with(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        result = run_command(tmp_path, "openapi", "flows.py", "--output", "openapi.json")
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        with serving(tmp_path, "flows.py") as server:
            served = httpx.get(f"{server.url}/openapi.json").json()
        assert json.loads((tmp_path / "openapi.json").read_text(encoding="utf-8")) == served

    def test_it_needs_no_source(self, tmp_path: Path) -> None:
        result = run_command(tmp_path, "openapi")
        assert json.loads(result.stdout)["openapi"].startswith("3.1")

    def test_a_file_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        result = run_command(tmp_path, "openapi", "--output", "none/openapi.json")
        assert (result.returncode, result.stderr) == (
            2,
            "Error: none/openapi.json cannot be written (No such file or directory): "
            "give another file with --output.\n",
        )


class TestProgram:
    @pytest.mark.parametrize(
        ("store", "shown"),
        [
            ("postgresql://me:se:cret@host:5432/runs", "postgresql://me:***@host:5432/runs"),
            ("postgresql://me@host:5432/runs", "postgresql://me@host:5432/runs"),
            ("postgresql://me:se@cret@host/runs", "postgresql://me:***@host/runs"),
            ("postgresql+asyncpg://:secret@/runs", "postgresql+asyncpg://:***@/runs"),
            (
                "postgresql://host/runs?user=me&password=se%26cret&sslmode=require",
                "postgresql://host/runs?user=me&password=***&sslmode=require",
            ),
            (
                "postgresql://host/runs?sslpassword=secret&sslkey=me.key",
                "postgresql://host/runs?sslpassword=***&sslkey=me.key",
            ),
            ("sqlite:///runs.sqlite3", "sqlite:///runs.sqlite3"),
        ],
    )
    def test_the_password_of_a_store_is_not_printed(self, store: str, shown: str) -> None:
        assert describe_store(None, store) == f"Runs are kept in {shown}"

    def test_the_version_is_that_of_the_distribution(self, tmp_path: Path) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        result = run_command(tmp_path, "--version")
        assert (result.returncode, result.stdout) == (0, f"{project['version']}\n")

    def test_the_version_needs_neither_the_engine_nor_the_web_framework(self) -> None:
        program = (
            "import sys, workflow_server.app.commands.program; "
            "print([m for m in sys.argv[1:] if m in sys.modules])"
        )
        python = str(Path(COMMAND).with_name("python"))
        heavy = ["workflows", "fastapi", "uvicorn"]
        result = subprocess.run(
            [python, "-c", program, *heavy], capture_output=True, text=True, check=True
        )
        assert result.stdout == "[]\n"
