"""The README tells the truth: its commands run, its answers are given, its tables are complete."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.errors import ServiceError
from app.server import WorkflowServer
from app.settings import ENV_PREFIX, Settings
from routers.problems import CODES
from tests.support.command import RunningServer, run_command, serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8000"

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
OUTPUTS = ("json", "text")
LEFT_OUT = "…"
# What differs from run to run: times, and the ids that the server makes.
VOLATILE = re.compile(r'"(run_id|next_cursor|\w+_at)":"[^"]*"|"(handler_id)":"[\w-]{10}"', re.ASCII)
# In place of the command: quiet, and each call's status and exit code to the standard error.
CURL = """
curl() {
    command curl --silent --max-time 10 --write-out '%{stderr}%{http_code}' "$@"
    echo " $?" >&2
}
"""
TIMED_OUT = 28


@dataclass(frozen=True)
class Block:
    """A fenced block, and the block of output right below it, if there is one."""

    language: str
    text: str
    output: str | None


def list_blocks() -> Iterator[Block]:
    """Yield the README's blocks that are not output of the block above."""
    found = list(BLOCK.finditer(README))
    following = [*found[1:], None]
    for match, below in zip(found, following, strict=True):
        language, text = match.groups()
        if language not in OUTPUTS:
            shown = below is not None and below[1] in OUTPUTS and _adjoin(match, below)
            yield Block(language, text, below[2] if below is not None and shown else None)


def _adjoin(match: re.Match[str], below: re.Match[str]) -> bool:
    return README[match.end() : below.start()].strip() == ""


BLOCKS = tuple(list_blocks())
CALLS = [block for block in BLOCKS if block.language == "bash" and "curl " in block.text]
PROGRAMS = [block for block in BLOCKS if block.language == "python" and block.output]
FILES = {
    block.text.partition("\n")[0].removeprefix("# "): block.text
    for block in BLOCKS
    if block.language == "python" and block.text.startswith("# ")
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield the server that `make run` starts, on another port and in a folder of its own."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copy(ROOT / "README.md", folder)
    with serving(folder, "examples") as server:
        yield server


def require(*tools: str) -> None:
    """Skip the test where tools are missing; fail it where all must be there."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{' and '.join(missing)} cannot be found")
    if missing:
        pytest.skip(f"{' and '.join(missing)} cannot be found")


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def expected_ends(script: str) -> list[str]:
    """Return the status and the exit code that each call of a script should end with.

    The status is 200, or what a comment behind the call says.
    """
    calls = [line for line in script.replace("\\\n", " ").splitlines() if line.startswith("curl ")]
    ends = []
    for call in calls:
        comment = re.search(r"  # (\d{3})$", call)
        exit_code = TIMED_OUT if "--max-time" in call else 0
        ends.append(f"{comment[1] if comment else 200} {exit_code}")
    return ends


def as_pattern(shown: str) -> str:
    """Return the expression for outputs like the one shown: ids, times, spaces and `…` aside."""
    return ".*".join(re.escape(part) for part in flatten(shown).split(LEFT_OUT))


def flatten(output: str) -> str:
    """Return an output without what differs from run to run, and without white space."""
    return "".join(VOLATILE.sub(r'"\1\2":"made"', output).split())


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


def test_every_call_is_answered_as_shown(server: RunningServer, tmp_path: Path) -> None:
    require("bash", "curl")
    for block in CALLS:
        script = CURL + block.text.replace(URL, server.url)
        result = run("bash", "-c", script, folder=tmp_path)
        assert result.stderr.splitlines() == expected_ends(block.text), block.text
        pattern = as_pattern(block.output or LEFT_OUT)
        assert re.fullmatch(pattern, flatten(result.stdout), re.DOTALL), (
            f"{block.text}\n{result.stdout}"
        )


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda block: block.text.split("\n", 1)[0])
def test_every_program_prints_what_is_shown(
    program: Block, server: RunningServer, tmp_path: Path
) -> None:
    text = program.text.replace(URL, server.url)
    result = run(sys.executable, "-c", text, folder=tmp_path)
    assert (result.stdout, result.stderr) == (program.output, "")


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


def write_files(folder: Path) -> None:
    """Write the files that the README shows."""
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")


def test_every_file_is_python() -> None:
    assert sorted(FILES) == ["embed.py", "server.py", "shout.py", "website.py"]
    for name, text in FILES.items():
        compile(text, name, "exec")


def test_every_setting_is_listed_with_its_flag_and_default() -> None:
    listed = {variable: (cells[1], cells[2]) for variable, cells in table_rows(ENV_PREFIX).items()}
    assert listed == {
        ENV_PREFIX + name.upper(): (
            "--cors-origin" if name == "cors_origins" else f"--{name.replace('_', '-')}",
            show_default(setting.default),
        )
        for name, setting in Settings.model_fields.items()
    }


def test_every_flag_of_the_settings_exists(tmp_path: Path) -> None:
    flags = [cells[1] for cells in table_rows(ENV_PREFIX).values()]
    help_text = run_command(tmp_path, "serve", "--help").stdout
    offered = re.findall(r"^  (--[a-z-]+)", help_text, re.MULTILINE)
    assert sorted(offered) == sorted([*flags, "--help"])


def test_every_endpoint_is_listed_and_called() -> None:
    paths = WorkflowServer().openapi_schema()["paths"]
    endpoints = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    listed = {*table_rows("GET "), *table_rows("POST ")}
    assert listed == endpoints | {"GET /openapi.json"}

    calls = "\n".join(block.text for block in CALLS)
    uncalled = [
        path
        for path in paths
        if not re.search(URL + re.sub(r"\\{\w+\\}", r"[\\w-]+", re.escape(path)), calls)
    ]
    assert uncalled == []


def test_every_error_code_is_mentioned() -> None:
    codes = {error.code for error in subclasses(ServiceError)} | {CODES[405], CODES[413]}
    assert sorted(code for code in codes if f"`{code}`" not in README) == []


def test_every_link_within_the_repository_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {f"#{heading.lower().replace(' ', '-')}" for heading in headings}
    inner = [target for target in targets if not target.startswith("https://")]
    dead = [t for t in inner if t not in anchors and not (ROOT / t).exists()]
    assert dead == []
