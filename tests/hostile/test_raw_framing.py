"""Requests whose end can be read in two ways are refused, with all that comes behind them."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.command import serving
from tests.support.raw_http import (
    QUIETLY,
    RawServer,
    find_server,
    parse_answers,
    write_flows,
)

BODY = b'{"start_event": {"words": "sent"}}'
LENGTH = b"Content-Length: %d" % len(BODY)
CODED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
NEXT = b"POST /workflows/echo/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    """Yield a server of the command."""
    folder = tmp_path_factory.mktemp("flows")
    write_flows(folder)
    with serving(folder, "flows.py", *QUIETLY) as server:
        yield find_server(server)


def post(body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    head = [b"POST /workflows/echo/run HTTP/" + version, b"Host: localhost", *headers, b"", b""]
    return b"\r\n".join(head) + body


def get(target: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, *headers, b"", b""])


HOST = b"Host: localhost"
AMBIGUOUS = {
    "a length and chunks": post(CHUNKS, LENGTH, CODED),
    "chunks and a length": post(CHUNKS, CODED, b"Content-Length: 0"),
    "two lengths": post(BODY, LENGTH, b"Content-Length: 3"),
    "a length twice": post(BODY, LENGTH, LENGTH),
    "a list of lengths": post(BODY, LENGTH + b", %d" % len(BODY)),
    "an empty length": post(BODY, b"Content-Length: "),
    "a length in hexadecimal": post(BODY, b"Content-Length: 0x2"),
    "a length with a sign": post(BODY, b"Content-Length: +2"),
    "a length below zero": post(BODY, b"Content-Length: -2"),
    "a length with a vertical tab": post(BODY, b"Content-Length: \x0b2"),
    "a length beyond all": post(BODY, b"Content-Length: 18446744073709551618"),
    "a length with a space inside": post(BODY, b"Content-Length: 3 4"),
    "chunks twice": post(CHUNKS, b"Transfer-Encoding: chunked, chunked"),
    "chunks in two headers": post(CHUNKS, CODED, CODED),
    "chunks, and then something": post(CHUNKS, b"Transfer-Encoding: chunked, gzip"),
    "identity, and then chunks": post(CHUNKS, b"Transfer-Encoding: identity, chunked"),
    "two headers of codings": post(CHUNKS, b"Transfer-Encoding: gzip", CODED),
    "identity in another header": post(CHUNKS, b"Transfer-Encoding: identity", CODED),
    "identity alone": post(BODY, b"Transfer-Encoding: identity", LENGTH),
    "nothing before chunks": post(CHUNKS, b"Transfer-Encoding: ,chunked"),
    "nothing behind chunks": post(CHUNKS, b"Transfer-Encoding: chunked,"),
    "an empty coding": post(CHUNKS, b"Transfer-Encoding: "),
    "chunks in quotes": post(CHUNKS, b'Transfer-Encoding: "chunked"'),
    "chunks with a parameter": post(CHUNKS, b"Transfer-Encoding: chunked;q=1"),
    "chunks with a vertical tab": post(CHUNKS, b"Transfer-Encoding: \x0bchunked"),
    "an unknown coding": post(CHUNKS, b"Transfer-Encoding: xchunked"),
    "a coding with a space before its colon": post(CHUNKS, b"Transfer-Encoding : chunked"),
    "chunks in HTTP/1.0": post(CHUNKS, CODED, version=b"1.0"),
    "a header on two lines": post(BODY, LENGTH, b"X: a\r\n b"),
    "a header on two lines, by a tab": post(BODY, LENGTH, b"X: a\r\n\tb"),
    "a coding on two lines": post(CHUNKS, b"Transfer-Encoding:\r\n chunked"),
    "a space before the first header": b"GET /livez HTTP/1.1\r\n X: a\r\nHost: localhost\r\n\r\n",
    "a header without a name": get(b"/livez", HOST, b": a"),
    "a header without a colon": get(b"/livez", HOST, b"a"),
    "a line feed alone in the head": get(b"/livez", HOST, b"X: a\nY: b"),
    "a line feed alone at the end": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\n",
    "line feeds alone": b"GET /livez HTTP/1.1\nHost: localhost\n\n",
    "a carriage return alone": get(b"/livez", HOST, b"X: a\rY: b"),
    "a null": get(b"/livez", HOST, b"X: a\0b"),
    "a size of no digits": post(b"zz\r\n{}\r\n0\r\n\r\n", CODED),
    "a size with a prefix": post(b"0x2\r\n{}\r\n0\r\n\r\n", CODED),
    "a size with a sign": post(b"+2\r\n{}\r\n0\r\n\r\n", CODED),
    "a size with a space": post(b"2 \r\n{}\r\n0\r\n\r\n", CODED),
    "a size beyond all": post(b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n", CODED),
    "a size that ends in a line feed": post(b"2\n{}\r\n0\r\n\r\n", CODED),
    "an extension that ends in a line feed": post(b"2;a\n{}\r\n0\r\n\r\n", CODED),
    "an extension with a carriage return": post(b"2;a\rb\r\n{}\r\n0\r\n\r\n", CODED),
    "an extension with a null": post(b"2;a\0\r\n{}\r\n0\r\n\r\n", CODED),
    "a chunk that ends in a line feed": post(b"2\r\n{}\n0\r\n\r\n", CODED),
    "a chunk that does not end": post(b"2\r\n{}0\r\n\r\n", CODED),
    "a chunk that is longer than it says": post(b"2\r\n{}  \r\n0\r\n\r\n", CODED),
    "an end of chunks by line feeds": post(b"2\r\n{}\r\n0\n\n", CODED),
    "a trailer on two lines": post(b"2\r\n{}\r\n0\r\nX: a\r\n b\r\n\r\n", CODED),
    "another host in the address": get(b"http://other.example/livez", HOST),
    "a user in the address": get(b"http://localhost@localhost/livez", HOST),
    "a host in the address alone": get(b"http://localhost/livez"),
    "an address without a path": get(b"*", HOST),
    "a fragment": get(b"/livez#/metrics", HOST),
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel that is a path": b"CONNECT /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two hosts": get(b"/livez", HOST, HOST),
    "no host": get(b"/livez"),
}  # fmt: skip


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused_with_all_behind_it(
    raw: RawServer, name: str, later: bool
) -> None:
    before = count_handlers(raw)
    request = AMBIGUOUS[name]
    hosts = name in (
        "two hosts",
        "no host",
    )  # The end of these is plain; the next one is a request.
    following = LAST if hosts else NEXT
    answer = raw.ask(request, following) if later else raw.ask(request + following)
    statuses = [item.status for item in parse_answers(answer)]
    assert statuses == ([400, 200] if hosts else [400])
    assert count_handlers(raw) == before


def count_handlers(raw: RawServer) -> int:
    url = f"http://{raw.host}:{raw.port}/handlers"
    return len(httpx.get(url, timeout=60).json()["handlers"])


UNAMBIGUOUS = {
    "an extension": post(b"2;a=b\r\n{}\r\n0;c\r\n\r\n", CODED),
    "an extension in quotes": post(b'2;a="\\"; 5"\r\n{}\r\n0\r\n\r\n', CODED),
    "zeros before a size": post(b"0002\r\n{}\r\n000\r\n\r\n", CODED),
    "a size in capitals": post(b"C\r\n{}          \r\n0\r\n\r\n", CODED),
    "a coding in capitals": post(CHUNKS, b"TRANSFER-ENCODING: Chunked"),
    "a zero before a length": post(b"{}", b"Content-Length: 02"),
    "spaces around a length": post(b"{}", b"Content-Length:  2 "),
    "empty lines before it": b"\r\n\r\n" + post(b"{}", b"Content-Length: 2"),
    "an address in absolute form": post(b"{}", b"Content-Length: 2").replace(
        b"POST /", b"POST http://LOCALHOST/"
    ),
}


@pytest.mark.parametrize("name", UNAMBIGUOUS)
def test_what_can_be_read_in_one_way_only_is_taken(raw: RawServer, name: str) -> None:
    answers = parse_answers(raw.ask(UNAMBIGUOUS[name] + LAST))
    assert [item.status for item in answers] == [200, 200]


# Trailers.


def test_a_trailer_is_no_header(raw: RawServer) -> None:
    trailers = b"Host: evil.example\r\nOrigin: http://evil.example\r\nX-Request-Id: trailed\r\n"
    request = post(b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n", CODED)
    answers = parse_answers(raw.ask(request + LAST))
    assert [item.status for item in answers] == [200, 200]
    assert "trailed" not in answers[0].list("x-request-id")


def test_a_trailer_is_no_header_of_the_next_request(raw: RawServer) -> None:
    request = post(b"2\r\n{}\r\n0\r\nX-Request-Id: trailed\r\n\r\n", CODED)
    answers = parse_answers(raw.ask(request + LAST))
    assert "trailed" not in answers[1].list("x-request-id")


# Pipelining.


def test_what_comes_behind_a_request_that_is_refused_is_the_next_request(raw: RawServer) -> None:
    requests = [
        get(b"/nothing", HOST),
        post(b"{", b"Content-Length: 1"),
        post(BODY, LENGTH, b"Content-Encoding: gzip"),
        post(BODY, LENGTH, b"Origin: http://evil.example"),
        post(CHUNKS, CODED, b"Content-Encoding: gzip"),
    ]
    answers = parse_answers(raw.ask(b"".join(requests) + LAST))
    assert [item.status for item in answers] == [404, 400, 415, 403, 415, 200]


@pytest.mark.parametrize(
    "behind",
    [b"what is this\r\n\r\n", post(b"zz\r\n", CODED), post(b"zz\r\n", CODED) * 3],
    ids=["nothing", "a-fault", "faults"],
)
def test_no_refusal_is_taken_for_the_answer_to_an_earlier_request(
    raw: RawServer, behind: bytes
) -> None:
    slow = b'{"start_event": {"seconds": 60}}'
    request = post(slow, b"Content-Length: %d" % len(slow)) + behind
    assert raw.ask(request) == b""


def test_what_comes_behind_the_last_request_of_a_connection_is_passed_over(raw: RawServer) -> None:
    before = count_handlers(raw)
    answers = parse_answers(raw.ask(LAST + NEXT * 3))
    assert [item.status for item in answers] == [200]
    assert count_handlers(raw) == before


def test_a_client_does_not_fill_the_memory_with_requests_that_wait(raw: RawServer) -> None:
    slow = b'{"start_event": {"seconds": 60}}'
    first = post(slow, b"Content-Length: %d" % len(slow))
    assert raw.ask(first + get(b"/livez", HOST) * 200) == b""


def test_a_client_may_send_some_requests_before_it_is_answered(raw: RawServer) -> None:
    answers = parse_answers(raw.ask(get(b"/livez", HOST) * 99 + LAST))
    assert [item.status for item in answers] == [200] * 100
