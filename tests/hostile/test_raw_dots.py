"""Paths are taken as they are sent, and nothing is called by dots, which clients take away."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.command import serving
from tests.support.raw_http import (
    QUIETLY,
    Answer,
    RawServer,
    find_server,
    parse_answers,
    write_flows,
)

DOTS = [".", "..", "%2e", "%2E%2e", ".%2e"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    """Yield a server of the command."""
    folder = tmp_path_factory.mktemp("flows")
    write_flows(folder)
    with serving(folder, "flows.py", *QUIETLY) as server:
        yield find_server(server)


def ask(raw: RawServer, line: str) -> Answer:
    lines = [f"{line} HTTP/1.1", "Host: localhost", "Content-Length: 0", "Connection: close"]
    (answer,) = parse_answers(raw.ask("\r\n".join([*lines, "", ""]).encode()))
    return answer


@pytest.mark.parametrize("dots", DOTS)
@pytest.mark.parametrize(
    "line",
    [
        "GET /handlers/{}", "GET /events/{}", "GET /workflows/{}/schema", "GET /handlers/{}/runs",
        "POST /handlers/{}/cancel?purge=true", "POST /workflows/{}/run", "GET /docs/{}/handlers",
    ],
)  # fmt: skip
def test_dots_lead_to_no_other_resource(raw: RawServer, line: str, dots: str) -> None:
    assert ask(raw, line.format(dots)).status == 404


@pytest.mark.parametrize(("handler_id", "asked"), [(".", "/handlers"), ("..", "/")])
def test_nothing_is_started_that_a_client_could_not_ask_for(
    raw: RawServer, handler_id: str, asked: str
) -> None:
    """httpx takes dots out of a path, as browsers do: it would ask for something else."""
    base_url = f"http://{raw.host}:{raw.port}"
    assert httpx.URL(f"{base_url}/handlers/{handler_id}").path == asked
    body = {"handler_id": handler_id}
    response = httpx.post(f"{base_url}/workflows/echo/run", json=body, timeout=60)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_handler_id")
