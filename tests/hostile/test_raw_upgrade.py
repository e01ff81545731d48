"""A request that asks for an upgrade is a request like any other: its body is its body."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.command import serving
from tests.support.raw_http import QUIETLY, RawServer, find_server, parse_answers, write_flows

WORDS = b'{"start_event": {"words": "sent"}}'
SMUGGLED = b"POST /workflows/echo/run HTTP/1.1\r\nHost: localhost\r\n\r\n"
LENGTH = b"Content-Length: %d"
OFFERS = {
    "h2c": (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    ),
    "websocket": (
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "tls": (b"UPGRADE: TLS/1.0", b"CONNECTION: upgrade"),
    "two": (b"Connection: upgrade", b"Upgrade: h2c, foo/2", b"Upgrade: websocket"),
    "anything": (b"connection:upgrade", b"upgrade:\t."),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    """Yield a server of the command."""
    folder = tmp_path_factory.mktemp("flows")
    write_flows(folder)
    with serving(folder, "flows.py", *QUIETLY) as server:
        yield find_server(server)


def post(*headers: bytes, body: bytes = b"", path: bytes = b"/workflows/echo/run") -> bytes:
    head = [b"POST %b HTTP/1.1" % path, b"Host: localhost", *headers, b"", b""]
    return b"\r\n".join(head) + body


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def last() -> bytes:
    return b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def results(answer: bytes) -> list[object]:
    """Return what the runs of each answer ended with, and the statuses of all others."""
    found: list[object] = []
    for item in parse_answers(answer):
        body = json.loads(item.body)
        found.append(body["result"]["value"]["result"] if "result" in body else item.status)
    return found


def count_handlers(raw: RawServer) -> int:
    url = f"http://{raw.host}:{raw.port}/handlers"
    return len(httpx.get(url, timeout=60).json()["handlers"])


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_with_a_length_is_read_as_the_body(raw: RawServer, offer: str) -> None:
    request = post(*OFFERS[offer], LENGTH % len(WORDS), body=WORDS)
    assert results(raw.ask(request + last())) == ["sent", 200]


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_in_chunks_is_read_as_the_body(raw: RawServer, offer: str) -> None:
    request = post(*OFFERS[offer], b"Transfer-Encoding: chunked", body=chunked(WORDS, 5))
    assert results(raw.ask(request + last())) == ["sent", 200]


@pytest.mark.parametrize("offer", OFFERS)
def test_a_request_in_a_body_is_no_request(raw: RawServer, offer: str) -> None:
    before = count_handlers(raw)
    body = SMUGGLED * 3
    whole = raw.ask(post(*OFFERS[offer], LENGTH % len(body), body=body) + last())
    later = raw.ask(post(*OFFERS[offer], LENGTH % len(body)), body, last())
    pieces = raw.ask(
        post(*OFFERS[offer], b"Transfer-Encoding: chunked"), chunked(body, len(SMUGGLED)), last()
    )
    assert [results(answer) for answer in (whole, later, pieces)] == [[400, 200]] * 3
    assert count_handlers(raw) == before


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_it_does_not_matter_where_the_request_is_cut(raw: RawServer, framing: str) -> None:
    if framing == "length":
        request = post(*OFFERS["h2c"], LENGTH % len(WORDS), body=WORDS)
    else:
        coding = b"Transfer-Encoding: chunked"
        request = post(*OFFERS["h2c"], coding, body=chunked(WORDS, 20))
    whole = request + last()
    found = {cut: results(raw.ask(whole[:cut], whole[cut:])) for cut in range(1, len(whole))}
    assert {cut: found[cut] for cut in found if found[cut] != ["sent", 200]} == {}


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_request_that_comes_byte_by_byte_is_read_whole(raw: RawServer, framing: str) -> None:
    if framing == "length":
        request = post(*OFFERS["h2c"], LENGTH % len(WORDS), body=WORDS)
    else:
        coding = b"Transfer-Encoding: chunked"
        request = post(*OFFERS["h2c"], coding, body=chunked(WORDS, 7))
    whole = request + last()
    answer = raw.ask(*(whole[at : at + 1] for at in range(len(whole))))
    assert results(answer) == ["sent", 200]


def test_many_of_them_in_one_segment_are_answered_in_order(raw: RawServer) -> None:
    bodies = [b'{"start_event": {"words": "%d"}}' % number for number in range(40)]
    requests = [
        post(*OFFERS[offer], LENGTH % len(body), body=body)
        for body, offer in zip(bodies, [*OFFERS] * 8, strict=True)
    ]
    answer = raw.ask(b"".join(requests) + last())
    assert results(answer) == [*(str(number) for number in range(40)), 200]


def test_nothing_says_that_the_upgrade_is_taken(raw: RawServer) -> None:
    get = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"\r\n".join(OFFERS["websocket"])
    answers = parse_answers(raw.ask(get + b"\r\n\r\n" + last()))
    assert [(item.status, item.list("upgrade")) for item in answers] == [(200, [])] * 2


@pytest.mark.parametrize(
    "framing",
    [
        (b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 3", b"Content-Length: 30"),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked", b"X: a\r\n b"),
    ],
    ids=str,
)
def test_an_upgrade_makes_no_framing_right(raw: RawServer, framing: tuple[bytes, ...]) -> None:
    before = count_handlers(raw)
    answer = raw.ask(post(*OFFERS["h2c"], *framing, body=chunked(WORDS, 20)) + SMUGGLED)
    assert [item.status for item in parse_answers(answer)] == [400]
    assert count_handlers(raw) == before


def test_an_upgrade_that_is_asked_for_in_http_1_0_is_passed_over(raw: RawServer) -> None:
    head = post(*OFFERS["h2c"], LENGTH % len(WORDS)).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert results(raw.ask(head, WORDS)) == ["sent"]


def test_a_large_head_with_an_upgrade_is_refused_all_the_same(raw: RawServer) -> None:
    request = post(*OFFERS["h2c"], b"X-Long: " + b"x" * 40_000, LENGTH % len(WORDS), body=WORDS)
    assert [item.status for item in parse_answers(raw.ask(request))] == [431]
