"""The server of `llama-index-workflows` 2.11.1, and ours, asked the same requests."""

from collections.abc import Iterator

import httpx
import pytest

from tests.differential.asking import Request, ask
from tests.differential.differences import DIFFERENCES, ROWS, compare, expect
from tests.differential.requests import REQUESTS
from tests.differential.servers import serve
from tests.packaging.wheel import ROOT
from tests.support.peers import LOCKED, Peer

OLDER = Peer("llama-index-workflows", "2.11.1")
PAGE = ROOT / "docs" / "coming-from-llama-agents-server.md"

Servers = tuple[httpx.Client, httpx.Client]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Yield clients of the older server, and of ours."""
    OLDER.install()
    with (
        serve("workflows.server", OLDER.environment) as theirs,
        serve("workflow_server", LOCKED) as ours,
    ):
        yield theirs, ours


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.name)
def test_the_answers_differ_in_what_is_listed(servers: Servers, request_: Request) -> None:
    theirs, ours = (ask(client, request_) for client in servers)
    assert compare(theirs, ours) == expect(request_.name), (theirs, ours)


def test_requests_are_told_by_their_names() -> None:
    assert len({request.name for request in REQUESTS}) == len(REQUESTS) > 121


def test_the_page_says_how_many_there_are() -> None:
    assert f"puts {len(REQUESTS)} requests" in PAGE.read_text(encoding="utf-8")


def test_every_pattern_names_a_request() -> None:
    patterns = {pattern: each for each in DIFFERENCES for pattern in each.requests}
    named = {
        pattern
        for pattern, difference in patterns.items()
        for request in REQUESTS
        if difference.is_in(request.name)
    }
    assert named == patterns.keys()


@pytest.mark.parametrize("row", ROWS)
def test_every_difference_is_documented_with_its_reason(row: str) -> None:
    assert row in PAGE.read_text(encoding="utf-8").splitlines()
