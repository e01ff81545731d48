"""What arrived is put together, timed and checked when all is over."""

import json
import socket

import pytest

from benchmarks.readers import Reader, check_emissions
from benchmarks.workloads import WrongAnswer

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def frame(sequence: int, kind: str, **value: float) -> bytes:
    envelope = json.dumps({"value": value, "type": kind})
    data = f"id: {sequence}\ndata: {envelope}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def emission(index: int) -> bytes:
    return frame(index, "Emission", index=index, emitted=10.0 + index)


def reader(*pieces: tuple[float, bytes]) -> Reader:
    with socket.socket() as connection:
        return Reader(connection, [p for _, p in pieces], [arrived for arrived, _ in pieces])


def test_the_delay_of_an_event_ends_with_the_piece_that_brings_its_time() -> None:
    both = emission(0) + emission(1)
    middle = both.index(b"11.0") + 2
    found = reader((9.0, HEAD), (10.5, both[:middle]), (13.0, both[middle:])).delays()
    assert list(found) == [0.5, 2.0]


def test_all_emissions_in_order_and_the_result_are_accepted() -> None:
    stop = frame(2, "StopEvent", result=2)
    whole = reader((1.0, HEAD), (1.0, emission(0) + emission(1) + stop + b"0\r\n\r\n"))
    check_emissions(whole.response(), range(2))


@pytest.mark.parametrize(
    "frames",
    [
        emission(0) + frame(2, "StopEvent", result=2),
        emission(1) + emission(0) + frame(2, "StopEvent", result=2),
        emission(0) + emission(1),
    ],
    ids=["missing", "out of order", "no result"],
)
def test_another_stream_is_refused(frames: bytes) -> None:
    whole = reader((1.0, HEAD + frames + b"0\r\n\r\n"))
    with pytest.raises(WrongAnswer):
        check_emissions(whole.response(), range(2))


def test_a_stream_that_breaks_off_is_refused() -> None:
    with pytest.raises(WrongAnswer):
        reader((1.0, HEAD), (1.0, emission(0))).response()
