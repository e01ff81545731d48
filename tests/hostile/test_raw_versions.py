"""Each version of HTTP is answered as its clients understand it, or told that it is not spoken."""

from collections.abc import Iterator

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

BODY = b'{"handler_id": "h", "start_event": {"words": "sent"}}'
EXPECTING = b"Expect: 100-continue"
LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    """Yield a server of the command, in which the handler `h` has ended."""
    folder = tmp_path_factory.mktemp("flows")
    write_flows(folder)
    with serving(folder, "flows.py", *QUIETLY) as server:
        found = find_server(server)
        found.ask(post(BODY, version=b"1.0"))
        yield found


def get(target: bytes, *headers: bytes, version: bytes = b"1.0", method: bytes = b"GET") -> bytes:
    line = b"%b %b HTTP/%b" % (method, target, version)
    return b"\r\n".join([line, b"Host: localhost", *headers, b"", b""])


def post(body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    length = b"Content-Length: %d" % len(body)
    target = b"/workflows/echo/run"
    return get(target, length, *headers, version=version, method=b"POST") + body


def ask(raw: RawServer, *segments: bytes) -> Answer:
    """Return the one answer."""
    (answer,) = parse_answers(raw.ask(*segments))
    return answer


@pytest.mark.parametrize("version", [b"2.0", b"0.9", b"3.0", b"1.2", b"9.9"])
def test_another_version_is_told_which_are_spoken(raw: RawServer, version: bytes) -> None:
    answer = ask(raw, get(b"/livez", version=version) + LAST)
    assert answer.status == 505
    assert b'"code":"http_version_not_supported"' in answer.body
    assert answer.list("connection") == ["close"]


def test_the_first_bytes_of_http_2_are_told_so_too(raw: RawServer) -> None:
    assert ask(raw, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 505


def test_a_request_of_no_version_is_refused(raw: RawServer) -> None:
    assert ask(raw, b"GET /livez\r\n\r\n").status == 505


PATHS = {
    "a stream": b"/events/h?after_sequence=-1",
    "lines": b"/events/h?after_sequence=-1&sse=false",
    "a handler": b"/handlers/h",
    "nothing": b"/nothing",
    "a page": b"/docs",
    "an ended stream": b"/events/h?after_sequence=99",
}


@pytest.mark.parametrize("asked", [(), (b"Connection: keep-alive",), (b"Connection: close",)])
@pytest.mark.parametrize("path", PATHS)
def test_http_1_0_gets_no_chunks_and_one_header_of_the_connection(
    raw: RawServer, path: str, asked: tuple[bytes, ...]
) -> None:
    answer = ask(raw, get(PATHS[path], *asked))
    assert answer.list("transfer-encoding") == []
    assert answer.list("connection") == ["close"]


def test_http_1_0_reads_a_stream_to_the_end_of_its_connection(raw: RawServer) -> None:
    older = ask(raw, get(b"/events/h?after_sequence=-1&sse=false"))
    newer = ask(
        raw, get(b"/events/h?after_sequence=-1&sse=false", b"Connection: close", version=b"1.1")
    )
    assert newer.list("transfer-encoding") == ["chunked"]
    assert older.body == newer.body
    assert older.body.count(b"\n") == 2


@pytest.mark.parametrize("path", PATHS)
def test_http_1_1_gets_at_most_one_header_of_the_connection(raw: RawServer, path: str) -> None:
    going_on, ended = parse_answers(
        raw.ask(
            get(PATHS[path], version=b"1.1")
            + get(PATHS[path], b"Connection: close", version=b"1.1")
        )
    )
    assert (going_on.list("connection"), ended.list("connection")) == ([], ["close"])


def test_the_head_alone_has_no_body_in_http_1_0(raw: RawServer) -> None:
    answer = raw.ask(get(b"/docs", method=b"HEAD"))
    assert answer.partition(b"\r\n\r\n")[2] == b""
    assert b"transfer-encoding" not in answer


# A body that waits for a word.


def test_a_client_that_waits_with_its_body_is_told_to_go_on(raw: RawServer) -> None:
    head = post(BODY, EXPECTING).removesuffix(BODY)
    answers = parse_answers(raw.ask(head, BODY + LAST))
    assert [item.status for item in answers] == [100, 200, 200]


def test_what_follows_a_refusal_before_the_body_is_no_request(raw: RawServer) -> None:
    head = post(LAST, EXPECTING, b"Content-Encoding: gzip").removesuffix(LAST)
    answer = ask(raw, head, LAST)
    assert (answer.status, answer.list("connection")) == (415, ["close"])


def test_a_body_that_comes_without_waiting_keeps_the_connection(raw: RawServer) -> None:
    request = post(BODY, EXPECTING, b"Content-Encoding: gzip")
    assert [item.status for item in parse_answers(raw.ask(request + LAST))] == [415, 200]


def test_http_1_0_is_not_told_to_go_on(raw: RawServer) -> None:
    head = post(BODY, EXPECTING, version=b"1.0").removesuffix(BODY)
    assert ask(raw, head, BODY).status == 200
