"""The README tells the truth: its commands run, its answers are given, its tables are complete."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import RunningServer, run_command, running, serving
from tests.support.documents import (
    CARRIED_OUT,
    PARSERS,
    ROOT,
    URL,
    Block,
    check_program,
    check_script,
    list_dead_links,
    read_blocks,
    require,
    run,
)
from workflow_server.app.errors import ServiceError
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import ENV_PREFIX, Settings
from workflow_server.routers.problems import CODES

# Of settings whose flag has another name, or which have none.
FLAGS = {
    "allowed_hosts": "--allowed-host",
    "cors_origins": "--cors-origin",
    "trusted_proxies": "--trusted-proxy",
    "api_keys_file": "--api-keys",
    "api_keys": "",
}
README = (ROOT / "README.md").read_text(encoding="utf-8")

BLOCKS = read_blocks(README)
CALLS = [block for block in BLOCKS if block.calls]
PROGRAMS = [block for block in BLOCKS if block.kind == "python" and block.output]
FILES = {block.file: block for block in BLOCKS if block.file is not None}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield the server that `make run` starts, on another port and in a folder of its own."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copy(ROOT / "README.md", folder)
    with serving(folder, "examples") as server:
        yield server


def table_rows(beginning: str) -> dict[str, list[str]]:
    """Return the cells of table rows by the first one, which is code that begins so."""
    rows = [line.strip("|").split("|") for line in README.splitlines() if line.startswith("| `")]
    cells = [[cell.strip().strip("`") for cell in row] for row in rows]
    return {row[0]: row for row in cells if row[0].startswith(beginning)}


def show_default(default: Any) -> str:
    """Return a setting's default as a variable would give it."""
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case tuple():
            return ",".join(map(str, default))
        case _:
            return str(default)


def subclasses(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
    """Yield a class and all that are made from it."""
    yield error
    for child in error.__subclasses__():
        yield from subclasses(child)


def test_every_block_is_carried_out_or_parsed() -> None:
    # The JavaScript program is run in tests/clients/test_typescript_client.py.
    assert {block.kind for block in BLOCKS} <= {*CARRIED_OUT, *PARSERS, "js"}
    carried_out = [block for block in BLOCKS if block.kind in CARRIED_OUT]
    assert carried_out == [block for block in BLOCKS if block in (*CALLS, *PROGRAMS) or block.file]


def test_every_call_is_answered_as_shown(server: RunningServer, tmp_path: Path) -> None:
    require("bash", "curl")
    for block in CALLS:
        check_script(block, server.url, tmp_path)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda block: block.text.split("\n", 1)[0])
def test_every_program_prints_what_is_shown(
    program: Block, server: RunningServer, tmp_path: Path
) -> None:
    check_program(program, server.url, tmp_path)


def test_the_server_says_at_its_start_what_is_shown(server: RunningServer) -> None:
    (start,) = (block for block in BLOCKS if "make run" in block.text)
    assert start.output == "\n".join(server.lines).replace(server.url, URL) + "\n"


@pytest.mark.parametrize("name", ["shout.py", "server.py"])
def test_every_file_that_is_shown_can_be_served(name: str, tmp_path: Path) -> None:
    write_files(tmp_path)
    result = run_command(tmp_path, "openapi", name, "--output", "openapi.json")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_server_that_is_shown_mounted_is_there(tmp_path: Path) -> None:
    write_files(tmp_path)
    program = "from website import site, server; print(site.routes[-1].app is server.app)"
    result = run(sys.executable, "-c", program, folder=tmp_path)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_the_program_that_is_shown_serves(tmp_path: Path) -> None:
    write_files(tmp_path)
    file = tmp_path / "embed.py"
    file.write_text(FILES["embed.py"].text.replace("port=8000", "port=0"), encoding="utf-8")
    with running(tmp_path, sys.executable, file.name) as server:
        assert server.process.poll() is None


def write_files(folder: Path) -> None:
    """Write the files that the README shows."""
    for name, block in FILES.items():
        (folder / name).write_text(block.text, encoding="utf-8")


def test_every_file_is_shown_once() -> None:
    assert sorted(FILES) == ["embed.py", "server.py", "shout.py", "website.py"]


def test_every_setting_is_listed_with_its_flag_and_default() -> None:
    listed = {variable: (cells[1], cells[2]) for variable, cells in table_rows(ENV_PREFIX).items()}
    assert listed == {
        ENV_PREFIX + name.upper(): (
            FLAGS.get(name, f"--{name.replace('_', '-')}"),
            show_default(setting.default),
        )
        for name, setting in Settings.model_fields.items()
    }


def test_every_flag_of_the_settings_exists(tmp_path: Path) -> None:
    flags = [cells[1] for cells in table_rows(ENV_PREFIX).values() if cells[1]]
    help_text = run_command(tmp_path, "serve", "--help").stdout
    offered = re.findall(r"^  (--[a-z-]+)", help_text, re.MULTILINE)
    assert sorted(offered) == sorted([*flags, "--help"])


def test_every_endpoint_is_listed_and_called() -> None:
    paths = WorkflowServer().openapi_schema()["paths"]
    endpoints = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    listed = {*table_rows("GET "), *table_rows("POST ")}
    assert listed == endpoints | {"GET /openapi.json", "GET /"}

    calls = "\n".join(block.text for block in CALLS)
    uncalled = [
        path
        for path in paths
        if not re.search(URL + re.sub(r"\\{\w+\\}", r"[\\w-]+", re.escape(path)), calls)
    ]
    # The one server of this page has no others, and none to drain.
    assert uncalled == ["/servers", "/servers/{server_id}/drain"]


def test_every_error_code_is_mentioned() -> None:
    codes = {error.code for error in subclasses(ServiceError)} | {CODES[405], CODES[413]}
    assert sorted(code for code in codes if f"`{code}`" not in README) == []


def test_every_link_within_the_repository_leads_somewhere() -> None:
    assert list_dead_links(ROOT / "README.md") == []
