"""Documents that are put to the test: what their blocks are, and what following them gives.

The info string of a fence says what becomes of its block. `bash` and `python` are carried out;
`json` and `text` below such a block are what it prints. Where a second word is `parsed`, the block
cannot run here (it needs Docker, nginx, systemd, …) and is only read: see `PARSERS`.
"""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from tests.support.command import COMMAND, RunningServer, make_environment, serving

ROOT = Path(__file__).parents[2]
URL = "http://127.0.0.1:8000"

BLOCK = re.compile(r"^```([^\n`]+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
CARRIED_OUT = ("bash", "python")
OUTPUTS = ("json", "text")
LEFT_OUT = "…"
# What differs from run to run: times, and the ids that the server makes.
VOLATILE = re.compile(r'"(run_id|next_cursor|\w+_at)":"[^"]*"|"(handler_id)":"[\w-]{10}"', re.ASCII)
# In place of the command: quiet, and each call's status and exit code to the standard error.
CURL = """
curl() {
    local code=0
    command curl --silent --max-time 10 --write-out '%{stderr}%{http_code}' "$@" || code=$?
    echo " $code" >&2
}
"""
TIMED_OUT = 28


@dataclass(frozen=True)
class Block:
    """A fenced block, and the block of output right below it, if there is one."""

    kind: str
    text: str
    output: str | None

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows, which its first line gives."""
        named = re.match(r"# ([\w.-]+\.py)\n", self.text)
        return named[1] if named and self.kind == "python" else None

    @property
    def serves(self) -> list[str] | None:
        """The arguments of `workflow-server serve`, where the block is that command."""
        words = shlex.split(self.text.replace("\\\n", " "), comments=True)
        is_command = self.kind == "bash" and words[:2] == ["workflow-server", "serve"]
        return words[2:] if is_command else None

    @property
    def calls(self) -> bool:
        """Whether the block calls a server with curl."""
        return self.kind == "bash" and "curl " in self.text


def read_blocks(document: str) -> tuple[Block, ...]:
    """Return a document's blocks that are not output of the block above."""
    found = list(BLOCK.finditer(document))
    blocks = []
    for match, below in zip(found, [*found[1:], None], strict=True):
        if match[1] in OUTPUTS:
            continue
        between = document[match.end() : below.start()].strip() if below else LEFT_OUT
        shown = below[2] if below is not None and below[1] in OUTPUTS and not between else None
        blocks.append(Block(match[1], match[2], shown))
    return tuple(blocks)


def list_unused_files(document: str) -> list[str]:
    """Return the files that a document shows and that no block of it runs, serves or imports."""
    blocks = read_blocks(document)
    shown = [block for block in blocks if block.file is not None and block.output is None]
    return [
        str(block.file)
        for block in shown
        if not any(Path(str(block.file)).stem in other.text for other in blocks if other != block)
    ]


def stray_outputs(document: str) -> list[str]:
    """Return the blocks of output that stand below no block which could have printed them."""
    shown = [match[2] for match in BLOCK.finditer(document) if match[1] in OUTPUTS]
    taken = [block.output for block in read_blocks(document)]
    return [output for output in shown if output not in taken]


def require(*tools: str) -> None:
    """Skip the test where tools are missing; fail it where all must be there."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{' and '.join(missing)} cannot be found")
    if missing:
        pytest.skip(f"{' and '.join(missing)} cannot be found")


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with `workflow-server` and `python` of this environment."""
    path = f"{Path(COMMAND).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=make_environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# Following.


class Follower:
    """Does what a document says, block after block, in one folder.

    A block that is `workflow-server serve …` starts a server there, to which the calls below it
    go; the one before is killed. A Python block with a name is written as a file, and run at once
    where its output is shown; else a later block runs or serves it.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._server: RunningServer | None = None

    def follow(self, block: Block) -> None:
        """Carry out a block and compare what it prints with what is shown."""
        match block.kind:
            case "bash" if block.serves is not None:
                self._serve(block, block.serves)
            case "bash":
                check_script(block, self._url, self._folder)
            case "python":
                check_program(block, self._url, self._folder)

    @property
    def _url(self) -> str:
        return self._server.url if self._server is not None else URL

    def _serve(self, block: Block, arguments: list[str]) -> None:
        self._stack.close()
        server = self._stack.enter_context(serving(self._folder, *arguments))
        self._server = server
        if block.output is not None:
            printed = "\n".join(server.lines).replace(server.url, URL)
            # Whether the web UI is built is not what a document says.
            printed = re.sub("Web page: .*", f"Web page:  {URL}/", printed)
            assert_shown(block, printed)


def check_script(block: Block, url: str, folder: Path) -> None:
    """Run a script whose calls go to a server; compare statuses, exit codes and output."""
    script = f"set -euo pipefail\n{CURL}{block.text.replace(URL, url)}"
    result = run("bash", "-c", script, folder=folder)
    assert result.stderr.splitlines() == expected_ends(block.text), f"{block.text}\n{result.stderr}"
    assert result.returncode == 0, block.text
    assert_shown(block, result.stdout)


def check_program(block: Block, url: str, folder: Path) -> None:
    """Write a program that has a name, and run it; compare what it prints."""
    text = block.text.replace(URL, url)
    if block.file is not None:
        (folder / block.file).write_text(text, encoding="utf-8")
        if block.output is None:
            return
    program = [block.file] if block.file is not None else ["-c", text]
    result = run(sys.executable, *program, folder=folder)
    assert (result.stdout, result.stderr) == (block.output or "", "")


def assert_shown(block: Block, printed: str) -> None:
    """Fail unless a block printed what is shown below it, if anything is."""
    pattern = as_pattern(block.output or LEFT_OUT)
    assert re.fullmatch(pattern, flatten(printed), re.DOTALL), f"{block.text}\n{printed}"


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


# Parsing what cannot run here. Each parser raises, whatever, for a text that is wrong.

INSTRUCTION = re.compile(r"(ARG|CMD|COPY|ENTRYPOINT|ENV|EXPOSE|FROM|RUN|USER|VOLUME|WORKDIR) \S")
SERVICE_KEYS = {
    "command", "depends_on", "environment", "healthcheck", "image", "ports", "read_only",
    "restart", "stop_grace_period", "volumes",
}  # fmt: skip
UNIT_SECTIONS = ["Unit", "Service", "Install"]


def _parse_bash(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=True)


def _parse_python(text: str) -> None:
    compile(text, "shown", "exec")


def _parse_dockerfile(text: str) -> None:
    lines = text.replace("\\\n", " ").splitlines()
    assert lines[0].startswith("FROM ")
    assert all(map(INSTRUCTION.match, lines))


def _parse_yaml(text: str) -> None:
    """Read compose files, and fragments of Kubernetes and Prometheus."""
    for document in yaml.safe_load_all(text):
        assert isinstance(document, dict)
        for service in document.get("services", {}).values():
            assert service.keys() <= SERVICE_KEYS
            named = {volume.partition(":")[0] for volume in service.get("volumes", ())}
            assert {name for name in named if name[0] not in "./"} <= document["volumes"].keys()


def _parse_nginx(text: str) -> None:
    """Read directives: words that end with `;`, or with a block of directives in braces."""
    depth = 0
    for statement in re.findall(r"[^;{}]*[;{}]|\S[^;{}]*$", re.sub(r"#.*", "", text)):
        words, end = statement[:-1].split(), statement[-1]
        assert end in ";{}"
        assert bool(words) is (end != "}")
        assert not words or re.fullmatch(r"[a-z_]+", words[0])
        depth += {"{": 1, "}": -1, ";": 0}[end]
        assert depth >= 0
    assert depth == 0


def _parse_unit(text: str) -> None:
    """Read a unit of systemd."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read_string(text)
    assert unit.sections() == UNIT_SECTIONS
    assert shlex.split(unit["Service"]["ExecStart"])[0].startswith("/")


def _parse_script(text: str) -> None:
    """Read JavaScript where there is a Node.js to do it."""
    if shutil.which("node") is not None:
        command = ["node", "--input-type=module", "--check"]
        subprocess.run(command, input=text, text=True, capture_output=True, check=True)


PARSERS: dict[str, Callable[[str], None]] = {
    "bash parsed": _parse_bash,
    "python parsed": _parse_python,
    "dockerfile parsed": _parse_dockerfile,
    "yaml parsed": _parse_yaml,
    "nginx parsed": _parse_nginx,
    "ini parsed": _parse_unit,
    "js parsed": _parse_script,
}


# Names that have to exist.


def list_flags(script: str) -> Iterator[tuple[str, str]]:
    """Yield the flags that a script gives to `workflow-server`, each with its command."""
    for line in script.replace("\\\n", " ").splitlines():
        _, found, arguments = line.partition(" #")[0].partition("workflow-server ")
        words = arguments.split() if found else []
        length = 2 if words[:1] == ["key"] else 1
        command = " ".join(words[:length])
        yield from ((command, word.partition("=")[0]) for word in words if word[:2] == "--")


def list_dead_links(document: Path) -> list[str]:
    """Return the links within the repository that lead nowhere, to a file or to a heading."""
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    return [t for t in targets if not t.startswith("https://") and not _leads(document, t)]


def _leads(document: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = document.parent / name if name else document
    return file.exists() and (not anchor or anchor in _list_anchors(file))


def _list_anchors(file: Path) -> list[str]:
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
