"""The pages of `docs/` tell the truth: each is followed from its first block to its last.

What becomes of a block is told in `tests.support.documents`.
"""

import re
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.documents import (
    CARRIED_OUT,
    PARSERS,
    ROOT,
    Follower,
    list_dead_links,
    list_flags,
    list_unused_files,
    read_blocks,
    require,
    stray_outputs,
)
from tests.support.replica_metrics import render_replica_metrics
from workflow_server.app.cli import main
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import ENV_PREFIX, Settings

PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *PAGES]
TEXTS = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
TEXT = "\n".join(TEXTS)

over_pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
over_documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda page: page.stem)


def test_there_is_a_page_for_each_subject() -> None:
    assert {page.stem for page in PAGES} >= {
        "coming-from-llama-agents-server",
        "deploying",
        "durability",
        "human-in-the-loop",
        "serving-your-own-workflow",
        "streaming",
        "values",
    }


def test_the_readme_leads_to_every_page() -> None:
    readme = TEXTS[0]
    assert [page.name for page in PAGES if f"(docs/{page.name})" not in readme] == []


def test_each_promise_of_durability_names_tests_that_there_are() -> None:
    text = (ROOT / "docs" / "durability.md").read_text(encoding="utf-8")
    table = text.partition("## Each promise")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(\w+/test_\w+\.py)`", row) for row in rows]
    assert [row for row, tests in zip(rows, named, strict=True) if not tests] == []
    missing = {test for tests in named for test in tests if not (ROOT / "tests" / test).exists()}
    assert missing == set()


@over_pages
def test_following_a_page_gives_what_it_shows(page: Path, tmp_path: Path) -> None:
    require("bash", "curl")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    with ExitStack() as stack:
        follower = Follower(tmp_path, stack)
        for block in read_blocks(page.read_text(encoding="utf-8")):
            follower.follow(block)


@over_pages
def test_every_block_of_a_page_is_carried_out_or_parsed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    unknown = {block.kind for block in read_blocks(text)} - {*CARRIED_OUT, *PARSERS}
    assert unknown == set()
    assert stray_outputs(text) == []
    assert list_unused_files(text) == []


@over_documents
def test_every_block_that_cannot_run_here_can_be_parsed(document: Path) -> None:
    require("bash")
    for block in read_blocks(document.read_text(encoding="utf-8")):
        if block.kind in PARSERS:
            PARSERS[block.kind](block.text)


@over_documents
def test_every_link_leads_somewhere(document: Path) -> None:
    assert list_dead_links(document) == []


def test_every_variable_is_a_setting() -> None:
    variables = set(re.findall(rf"{ENV_PREFIX}([A-Z_]+)\b", TEXT))
    assert {name.lower() for name in variables} - Settings.model_fields.keys() == set()


def test_every_flag_exists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = [block for text in TEXTS for block in read_blocks(text)]
    used = {flag for block in blocks for flag in list_flags(block.text)}
    offered = set()
    for command in sorted({command for command, _ in used}):
        monkeypatch.setattr(sys, "argv", ["workflow-server", *command.split(), "--help"])
        with pytest.raises(SystemExit):
            main()
        offered |= {(command, flag) for flag in re.findall(r"--[a-z-]+", capsys.readouterr().out)}
    assert used - offered == set()


@pytest.mark.anyio
async def test_every_metric_exists(client: httpx.AsyncClient) -> None:
    metrics = (await client.get("/metrics")).text + render_replica_metrics()
    known = set(re.findall(r"^# TYPE (\w+)", metrics, re.MULTILINE))
    assert set(re.findall(r"\bworkflow_server_\w+", TEXT)) - known == set()


def test_every_path_that_is_named_is_served() -> None:
    paths = WorkflowServer().openapi_schema()["paths"]
    probed = re.findall(r"\bpath: (/\w+)", TEXT)
    assert probed
    served = paths.keys() | {f"/{path.split('/')[1]}" for path in paths}  # of an Ingress
    assert set(probed) - served == set()
