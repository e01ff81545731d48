"""HTTP as bytes: a server of the command, and requests that arrive in segments of one's choice."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.support.command import RunningServer, write

DEADLINE = 60.0  # seconds; the machine may be busy
# Nobody reads the log while the server works, and what is not read fills a pipe.
QUIETLY = ("--store", "memory:", "--log-level", "error")
PROBE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

FLOWS = """
import asyncio

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Asked(StartEvent):
    words: str = "none"
    seconds: float = 0


class Line(Event):
    text: str


class Echo(Workflow):
    @step
    async def echo(self, ctx: Context, asked: Asked) -> StopEvent:
        ctx.write_event_to_stream(Line(text=asked.words))
        await asyncio.sleep(asked.seconds)
        return StopEvent(result=asked.words)


echo = Echo(timeout=None)
"""


class Answer(NamedTuple):
    """An answer as it came; `body` has its chunks put together."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def list(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True)
class RawServer:
    """A server that listens, with one event loop."""

    host: str
    port: int

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        """Yield a connection; it vanishes at the end of the block."""
        with socket.create_connection((self.host, self.port), timeout=DEADLINE) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield client

    def ask(self, *segments: bytes) -> bytes:
        """Send segments, each after the one before it was read; return all that comes."""
        with self.connect() as client:
            self.send(client, segments)
            return read_to_the_end(client)

    def send(self, client: socket.socket, segments: Sequence[bytes]) -> None:
        """Send segments, each after the one before it was read, until the server hangs up."""
        for segment in segments:
            try:
                client.sendall(segment)
            except (BrokenPipeError, ConnectionResetError):
                return
            if segment is not segments[-1]:
                self._wait_until_read()

    def _wait_until_read(self) -> None:
        """Ask the server for something: what had arrived before it has read by then."""
        with self.connect() as other:
            other.sendall(PROBE)
            assert read_to_the_end(other).startswith(b"HTTP/1.1 200 ")


def write_flows(folder: Path) -> Path:
    """Write a file that serves the workflow `echo`, which says what it was told."""
    return write(folder / "flows.py", FLOWS)


def find_server(server: RunningServer) -> RawServer:
    """Return the server of a command."""
    url = urlsplit(server.url)
    assert url.port is not None
    return RawServer("127.0.0.1", url.port)


def read_to_the_end(client: socket.socket) -> bytes:
    """Return all that a server sends until it hangs up, or resets what was sent too much."""
    read = b""
    while True:
        try:
            piece = client.recv(1 << 16)
        except ConnectionResetError:
            return read
        if not piece:
            return read
        read += piece


def parse_answers(raw: bytes) -> list[Answer]:
    """Return the answers in what a server sent; the framing of each must be right."""
    answers = []
    while raw:
        head, blank, raw = raw.partition(b"\r\n\r\n")
        assert blank
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        headers = [_split(line) for line in lines]
        answer = Answer(status, headers, b"")
        if status == 100:
            answers.append(answer)
            continue
        body, raw = _take_body(answer, raw)
        answers.append(Answer(status, headers, body))
    return answers


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


def _take_body(answer: Answer, raw: bytes) -> tuple[bytes, bytes]:
    """Return the body of an answer, and what comes behind it."""
    if answer.status == 204:
        return b"", raw
    if answer.list("transfer-encoding"):
        return _take_chunks(raw)
    if lengths := answer.list("content-length"):
        assert len(lengths) == 1
        length = int(lengths[0])
        assert len(raw) >= length
        return raw[:length], raw[length:]
    return raw, b""


def _take_chunks(raw: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        body += raw[:length]
        assert raw[length : length + 2] == b"\r\n"
        raw = raw[length + 2 :]
        if not length:
            return body, raw
