"""Behind an nginx that passes upgrades on, nothing comes through that it has not seen."""

from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from tests.support.command import serving
from tests.support.nginx import proxying
from tests.support.raw_http import QUIETLY, RawServer, find_server, parse_answers, write_flows

# As many write it down for WebSockets; and a purge is refused by the proxy.
RULES = """
if ($arg_purge) { return 403; }
proxy_set_header Host $http_host;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
proxy_request_buffering off;
proxy_buffering off;
"""
OFFERS = ["h2c", "websocket"]
WORDS = b'{"start_event": {"words": "sent"}}'
PURGE = b"POST /handlers/kept/cancel?purge=true HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Proxied(NamedTuple):
    """A server, in which the handler `kept` has ended, and the proxy before it."""

    server: RawServer
    proxy: RawServer


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """Yield a server behind a proxy."""
    folder = tmp_path_factory.mktemp("flows")
    write_flows(folder)
    with serving(folder, "flows.py", *QUIETLY) as running:
        server = find_server(running)
        with proxying(folder, server, RULES) as proxy:
            url = f"http://{server.host}:{server.port}/workflows/echo/run"
            httpx.post(url, json={"handler_id": "kept"}, timeout=60).raise_for_status()
            yield Proxied(server, proxy)


def post(offer: str, body: bytes, *headers: bytes) -> bytes:
    lines = [
        b"POST /workflows/echo/run HTTP/1.1",
        b"Host: localhost",
        b"Connection: Upgrade",
        b"Upgrade: " + offer.encode(),
        *(headers or [b"Content-Length: %d" % len(body)]),
    ]
    return b"\r\n".join([*lines, b"", b""]) + body


def find_kept(server: RawServer) -> int:
    return httpx.get(f"http://{server.host}:{server.port}/handlers/kept", timeout=60).status_code


LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_the_proxy_refuses_a_purge(proxied: Proxied) -> None:
    answers = parse_answers(proxied.proxy.ask(PURGE + LAST))
    assert [item.status for item in answers] == [403, 200]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_comes_through_as_the_body(proxied: Proxied, offer: str, framing: str) -> None:
    if framing == "length":
        request = post(offer, WORDS)
    else:
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(WORDS), WORDS)
        request = post(offer, chunks, b"Transfer-Encoding: chunked")
    ran, _ = parse_answers(proxied.proxy.ask(request + LAST))
    assert (ran.status, b'"result":"sent"' in ran.body) == (200, True)


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
def test_no_request_comes_through_in_a_body(proxied: Proxied, offer: str, later: bool) -> None:
    whole = post(offer, PURGE * 3)
    at = len(whole) - len(PURGE) * 3
    segments = [whole[:at], whole[at:]] if later else [whole]
    answers = parse_answers(proxied.proxy.ask(*segments, LAST))
    assert [item.status for item in answers] == [400, 200]
    assert find_kept(proxied.server) == 200


@pytest.mark.parametrize("offer", OFFERS)
def test_no_request_comes_through_behind_an_upgrade(proxied: Proxied, offer: str) -> None:
    """The proxy would pass anything on, if the server had taken the upgrade (101)."""
    answers = parse_answers(proxied.proxy.ask(post(offer, b""), PURGE, LAST))
    assert [item.status for item in answers] == [200, 403, 200]
    assert find_kept(proxied.server) == 200
