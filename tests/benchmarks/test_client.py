"""The client reads whole responses, however they arrive."""

import pytest

from benchmarks.client import Response, ResponseReader

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\nhe\r\n\r\nc\r\n0\r\n\r\nworlds!\r\n0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("sent", "response"),
    [
        (SIZED, Response(200, b"hello")),
        (CHUNKED, Response(200, b"he\r\n0\r\n\r\nworlds!")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Response(204, b"")),
    ],
    ids=["sized", "chunked", "empty"],
)
def test_a_response_is_whole_with_its_last_byte_and_not_before(
    sent: bytes, response: Response
) -> None:
    reader = ResponseReader()
    answers = [reader.feed(sent[index : index + 1]) for index in range(len(sent))]
    assert answers == [None] * (len(sent) - 1) + [response]


@pytest.mark.parametrize("sent", [SIZED, CHUNKED], ids=["sized", "chunked"])
def test_a_response_may_arrive_at_once(sent: bytes) -> None:
    assert ResponseReader().feed(sent) is not None
