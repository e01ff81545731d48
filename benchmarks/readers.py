"""Many readers of event streams in one thread, each noting when what arrived.

A bare loop over ready sockets: 50,000 arrivals a second cost it a third of a core, so that it
measures the server and not itself. What arrived is looked at when all is over.
"""

import itertools
import re
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from benchmarks.client import Response, ResponseReader, get
from benchmarks.workloads import WrongAnswer, read_frames

EMITTED = re.compile(rb'"emitted": ?([\d.]+)')
RECEIVE_BYTES = 1 << 18
END = b"0\r\n\r\n"


@dataclass(slots=True)
class Reader:
    """One stream: its pieces, and when each arrived, in seconds since the epoch."""

    connection: socket.socket
    pieces: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def response(self) -> Response:
        """Return what was read; `WrongAnswer` where it is not whole."""
        response = ResponseReader().feed(b"".join(self.pieces))
        if response is None:
            raise WrongAnswer(f"a stream ended early: {b''.join(self.pieces)[-300:]!r}")
        return response

    def emissions(self) -> Iterator[float]:
        """Yield when each event was emitted, in seconds since the epoch."""
        return (emitted for _, emitted in self._emissions())

    def delays(self) -> Iterator[float]:
        """Yield the seconds from emission to arrival of each."""
        return (arrived - emitted for arrived, emitted in self._emissions())

    def _emissions(self) -> Iterator[tuple[float, float]]:
        ends = list(itertools.accumulate(map(len, self.pieces)))
        index = 0
        for match in EMITTED.finditer(b"".join(self.pieces)):
            while ends[index] < match.end():
                index += 1
            yield self.times[index], float(match[1])


class Readers:
    """Some open streams."""

    def __init__(self) -> None:
        self.all: list[Reader] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for reader in self.all:
            reader.connection.close()

    def open(self, port: int, handler_ids: Sequence[str], *, wait_for: bytes) -> None:
        """Open a stream of each handler, and return when all have sent what is waited for."""
        opened = []
        for handler_id in handler_ids:
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(get(f"/events/{handler_id}?sse=true&after_sequence=-1"))
            reader = Reader(connection)
            opened.append(reader)
            self.all.append(reader)
        for reader in opened:
            while wait_for not in b"".join(reader.pieces):
                ended = self._receive(reader)
                if ended or not reader.pieces[0].startswith(b"HTTP/1.1 200"):
                    raise WrongAnswer(f"no stream: {b''.join(reader.pieces)[:300]!r}")
            reader.connection.setblocking(False)
            self._selector.register(reader.connection, selectors.EVENT_READ, reader)

    def read(self, *, until_ended: int, timeout: float) -> None:
        """Read until so many streams have ended; `WrongAnswer` after `timeout` seconds."""
        ended, deadline = 0, time.monotonic() + timeout
        while ended < until_ended:
            ready = self._selector.select(timeout=1)
            if time.monotonic() > deadline:
                raise WrongAnswer(f"{until_ended - ended} streams have not ended in {timeout} s")
            for key, _ in ready:
                if self._receive(key.data):
                    self._selector.unregister(key.fileobj)
                    ended += 1

    @staticmethod
    def _receive(reader: Reader) -> bool:
        """Take what has arrived; say whether the stream is over."""
        piece = reader.connection.recv(RECEIVE_BYTES)
        reader.times.append(time.time())
        reader.pieces.append(piece)
        if len(piece) >= len(END):
            return piece.endswith(END)
        return not piece or b"".join(reader.pieces[-len(END) :]).endswith(END)


def check_emissions(response: Response, indices: Sequence[int]) -> None:
    """Raise `WrongAnswer` unless a stream has all emissions in order, and then the result."""
    frames = read_frames(response.body)
    values = [envelope["value"] for _, envelope in frames if envelope["type"] == "Emission"]
    if [value["index"] for value in values] != list(indices):
        raise WrongAnswer(f"{len(values)} emissions, or not in order, instead of {len(indices)}")
    if "result" not in frames[-1][1]["value"]:
        raise WrongAnswer(f"the last event is {frames[-1][1]!r:.300}")
