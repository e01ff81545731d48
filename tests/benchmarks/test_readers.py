"""What arrived is put together, timed and checked when all is over."""

import asyncio
import json

import pytest

from benchmarks.client import Connection, ConnectionLost, Response, ResponseReader, WrongAnswer, get
from benchmarks.workloads import check_emissions

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def frame(sequence: int, kind: str, **value: float) -> bytes:
    envelope = json.dumps({"value": value, "type": kind})
    data = f"id: {sequence}\ndata: {envelope}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def emission(index: int) -> bytes:
    return frame(index, "Emission", index=index, emitted=10.0 + index)


def response(*frames: bytes) -> Response:
    whole = ResponseReader().feed(HEAD + b"".join(frames) + b"0\r\n\r\n")
    assert whole is not None
    return whole


def test_the_delay_of_an_event_ends_with_the_piece_that_brings_its_time() -> None:
    both = emission(0) + emission(1)
    middle = both.index(b"11.0") + 2
    reader = ResponseReader()
    for arrived, piece in ((9.0, HEAD), (10.5, both[:middle]), (13.0, both[middle:])):
        reader.feed(piece, arrived)
    assert [arrived - emitted for emitted, arrived in reader.emissions()] == [0.5, 2.0]


def test_all_emissions_in_order_and_the_result_are_accepted() -> None:
    stop = frame(2, "StopEvent", result=2)
    check_emissions(response(emission(0), emission(1), stop), range(2))


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
    with pytest.raises(WrongAnswer):
        check_emissions(response(frames), range(2))


async def test_a_stream_that_breaks_off_is_refused() -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + emission(0))
        writer.close()

    async with await asyncio.start_server(break_off, "127.0.0.1", 0) as server:
        connection = await Connection.open(server.sockets[0].getsockname()[1])
        with pytest.raises(ConnectionLost):
            await connection.request(get("/events"))
