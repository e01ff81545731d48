"""The Python client of every release since 2.8, each as it was published, on this server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.differential.servers import serve
from tests.packaging.wheel import ROOT
from tests.support.peers import LOCKED, RELEASES, Peer

MODULES = {
    "llama-index-workflows": "workflows.client",
    "llama-agents-client": "llama_agents.client",
}
Version = tuple[int, ...]
NEVER: Version = (99,)
# The release of each package since which its client has a method, where that is not the first one.
SINCE: dict[str, dict[str, Version]] = {
    "cancelled": {"llama-index-workflows": (2, 9)},
    "handler": {"llama-index-workflows": (2, 10)},
    "described": {"llama-index-workflows": NEVER, "llama-agents-client": (0, 3, 12)},
    "waited": {"llama-index-workflows": NEVER, "llama-agents-client": (0, 3, 13)},
}
ENDED = {"result": "Ada"}
SEEN: dict[str, Any] = {
    "health": "healthy",
    "workflows": ["greet", "echo", "count", "talk", "ask", "fail"],
    "typed": {"result": "Hello, Ada! Hello, Ada!"},
    "fields": {"result": "Hello, Ada!"},
    "untyped": {"result": {"a": 1}},
    "none": {"total": 2},
    "events": [["Counted", {"number": 0}], ["Counted", {"number": 1}], ["Sum", {"total": 2}]],
    "question": [["Question", {"prompt": "Who?"}]],
    "sent": "sent",
    "end": ["StopEvent", ENDED],
    "result": ENDED,
    "turns": [1, 2, 7],
    "failed": 500,
    "unknown": "Handler not found",
    "listed": [["ask", "completed", ENDED]],
    "cancelled": ["cancelled", "deleted"],
    "handler": ENDED,
    "described": [
        ["Greet", "StopEvent", "Greet", "StopEvent"],
        ["Greet", "StopEvent", "greet"],
    ],
    "waited": {"total": 2},
}


@dataclass(frozen=True)
class Difference:
    """What the client of some releases sees otherwise, from the first on and before the end."""

    key: str
    package: str
    first: Version
    end: Version
    value: Any
    because: str


# Their model requires what the health of a server of theirs says besides.
COUNTS = ["loaded_workflows", "active_workflows", "idle_workflows"]
NOT_TOLD = "anybody may ask for the health, and how much there is to do is nobody else's business"
DIFFERENCES = (
    Difference("health", "llama-index-workflows", (2, 12), (2, 14), COUNTS, NOT_TOLD),
    Difference("health", "llama-agents-client", (0, 1), (0, 2), COUNTS, NOT_TOLD),
    Difference(
        "result",
        "llama-index-workflows",
        (2, 8),
        (2, 10),
        "Ada",
        "`get_result` asks GET /results/{id} there, where the result is unwrapped",
    ),
)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with serve("workflow_server", LOCKED) as client:
        yield str(client.base_url)


def expect(release: Peer) -> dict[str, Any]:
    """Return what the client of a release is to see."""
    version = tuple(map(int, release.version.split(".")))
    known = {key: value for key, value in SEEN.items() if version >= since(key, release.package)}
    for each in DIFFERENCES:
        if each.package == release.package and each.first <= version < each.end:
            known[each.key] = each.value
    return known


def since(key: str, package: str) -> Version:
    return SINCE.get(key, {}).get(package, ())


@pytest.mark.parametrize("release", [each for each in RELEASES if each.package in MODULES], ids=str)
def test_the_client_of_a_release_starts_reads_answers_lists_and_cancels(
    base_url: str, release: Peer
) -> None:
    release.install()
    driven = subprocess.run(
        (sys.executable, "-m", "tests.clients.drive_release", MODULES[release.package], base_url),
        cwd=ROOT,
        env=release.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert driven.returncode == 0, driven.stderr
    assert json.loads(driven.stdout) == expect(release)
