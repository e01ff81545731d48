"""A page under a name that was made to point here reads and changes nothing (DNS rebinding)."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.command import serving
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.raw_http import (
    QUIETLY,
    Answer,
    RawServer,
    find_server,
    parse_answers,
    write_flows,
)
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import SettingsError

OURS = [
    "localhost", "localhost:8000", "LOCALHOST", "localhost.", "flows.localhost:3000",
    "127.0.0.1", "127.0.0.1:80", "127.9.9.9", "[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]:9",
]  # fmt: skip
FOREIGN = [
    "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example",
    "evil-localhost", "localhost..", "10.0.0.1", "0.0.0.0", "[::]", "[::2]", "[fe80::1]",
    "[::ffff:10.0.0.1]", "[localhost]", "127.1", "2130706433", "0x7f000001", "127.0.0.01", "",
    ":8000",
]  # fmt: skip
REQUESTS = [
    "GET /", "GET /handlers", "GET /handlers/kept", "GET /events/kept?after_sequence=-1",
    "GET /openapi.json", "GET /docs", "GET /health", "GET /metrics", "GET /nowhere",
    "POST /workflows/echo/run", "POST /workflows/echo/run-nowait",
    "POST /handlers/kept/cancel?purge=true", "OPTIONS /handlers",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workflow."""
    folder = tmp_path_factory.mktemp("flows")
    write_flows(folder)
    return folder


@pytest.fixture(scope="module")
def raw(folder: Path) -> Iterator[RawServer]:
    """Yield a server on loopback, as it is by default; the handler `kept` has ended."""
    with serving(folder, "flows.py", *QUIETLY) as server:
        url = f"{server.url}/workflows/echo/run"
        httpx.post(url, json={"handler_id": "kept"}, timeout=60).raise_for_status()
        yield find_server(server)


def ask(server: RawServer, request: str, host: str | None) -> Answer:
    """Return the answer to a request that names a host."""
    named = [] if host is None else [f"Host: {host}"]
    version = "1.0" if host is None else "1.1"
    lines = [f"{request} HTTP/{version}", *named, "Content-Length: 0", "Connection: close"]
    (answer,) = parse_answers(server.ask("\r\n".join([*lines, "", ""]).encode()))
    return answer


@pytest.mark.parametrize("host", OURS)
def test_a_name_of_loopback_is_taken(raw: RawServer, host: str) -> None:
    assert ask(raw, "GET /workflows", host).status == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_another_host_is_refused(raw: RawServer, host: str) -> None:
    answer = ask(raw, "GET /workflows", host)
    assert (answer.status, b'"host_not_allowed"' in answer.body) == (421, True)


def test_the_refusal_names_the_flag(raw: RawServer) -> None:
    body = ask(raw, "GET /workflows", "evil.example").body
    assert b"'evil.example' is no host of this server" in body
    assert b"--allowed-host (WORKFLOW_SERVER_ALLOWED_HOSTS" in body


@pytest.mark.parametrize("request_line", REQUESTS)
def test_nothing_is_read_or_done_for_another_host(raw: RawServer, request_line: str) -> None:
    before = list_handlers(raw)
    assert ask(raw, request_line, "evil.example:8000").status == 421
    assert list_handlers(raw) == before


def list_handlers(server: RawServer) -> object:
    return httpx.get(f"http://{server.host}:{server.port}/handlers", timeout=60).json()


def test_a_page_that_names_itself_as_origin_and_host_is_refused(raw: RawServer) -> None:
    lines = ["POST /workflows/echo/run HTTP/1.1", "Host: evil.example", "Content-Length: 0"]
    lines += ["Origin: http://evil.example", "Connection: close", "", ""]
    (answer,) = parse_answers(raw.ask("\r\n".join(lines).encode()))
    assert (answer.status, answer.list("access-control-allow-origin")) == (421, [])


def test_a_request_that_names_no_host_is_refused(raw: RawServer) -> None:
    answer = ask(raw, "GET /workflows", None)
    assert (answer.status, b"The request names no host" in answer.body) == (421, True)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize("host", ["10.0.0.7:8000", "evil.example", "[fd00::7]:8000", None])
def test_probes_are_answered_whatever_they_call_the_server(
    raw: RawServer, path: str, host: str | None
) -> None:
    assert ask(raw, f"GET {path}", host).status == 200


def test_no_other_name_of_the_host_is_looked_at(raw: RawServer) -> None:
    lines = ["GET /workflows HTTP/1.1", "Host: evil.example", "X-Forwarded-Host: localhost"]
    lines += ["Forwarded: host=localhost", "Connection: close", "", ""]
    (answer,) = parse_answers(raw.ask("\r\n".join(lines).encode()))
    assert answer.status == 421


def test_what_the_operator_allows_is_taken_beside_loopback(folder: Path) -> None:
    flags = ("--allowed-host", "Flows.Example.", "--allowed-host", "fd00::7")
    with serving(folder, "flows.py", *QUIETLY, *flags) as running:
        server = find_server(running)
        hosts = ["flows.example", "FLOWS.example:443", "[fd00:0::7]:80", "localhost"]
        taken = [ask(server, "GET /workflows", host).status for host in hosts]
        others = ["evil.example", "www.flows.example", "fd00::7", "[fd00::8]"]
        refused = [ask(server, "GET /workflows", host).status for host in others]
    assert (taken, refused) == ([200] * 4, [421, 421, 400, 421])


def test_every_host_is_taken_where_the_operator_says_so(folder: Path) -> None:
    with serving(folder, "flows.py", *QUIETLY, "--allowed-host", "*") as running:
        assert ask(find_server(running), "GET /workflows", "any.example").status == 200


def test_a_server_for_other_machines_takes_every_host(folder: Path) -> None:
    with serving(folder, "flows.py", *QUIETLY, "--host", "0.0.0.0") as running:
        assert ask(find_server(running), "GET /workflows", "any.example").status == 200


def test_a_server_for_other_machines_keeps_to_its_list(folder: Path) -> None:
    flags = ("--host", "0.0.0.0")
    allowed = {"WORKFLOW_SERVER_ALLOWED_HOSTS": "flows.example, 10.0.0.7"}
    with serving(folder, "flows.py", *QUIETLY, *flags, **allowed) as running:
        server = find_server(running)
        hosts = ["flows.example", "10.0.0.7:8000", "127.0.0.1", "evil.example"]
        statuses = [ask(server, "GET /workflows", host).status for host in hosts]
    assert statuses == [200, 200, 200, 421]


def test_a_server_on_loopback_by_ipv6_is_guarded_too(folder: Path) -> None:
    with serving(folder, "flows.py", *QUIETLY, "--host", "::1") as running:
        server = RawServer("::1", find_server(running).port)
        hosts = ["[::1]:8000", "localhost", "evil.example"]
        statuses = [ask(server, "GET /workflows", host).status for host in hosts]
    assert statuses == [200, 200, 421]


async def test_an_application_in_another_server_takes_every_host() -> None:
    async with open_client(WorkflowServer()) as client:
        response = await client.get("/workflows", headers={"Host": "any.example"})
    assert response.status_code == 200


async def test_an_application_in_another_server_keeps_to_its_list() -> None:
    async with open_client(WorkflowServer(allowed_hosts=["flows.example"])) as client:
        taken = await client.get("/workflows", headers={"Host": "flows.example"})
        refused = await client.get("/workflows", headers={"Host": "evil.example"})
    assert taken.status_code == 200
    assert problem_of(refused) == (421, "host_not_allowed")


@pytest.mark.parametrize(
    "host",
    ["http://a.example", "a.example:80", "a/b", "", "a..b", "*.example", "[::1]:80", "10.0.0.0/8"],
)
def test_what_is_no_host_cannot_be_allowed(host: str) -> None:
    with pytest.raises(SettingsError, match="it is no host name or address without a port"):
        WorkflowServer(allowed_hosts=[host])
