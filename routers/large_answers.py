"""Answers of JSON in pieces, of which no whole is made where they are large."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

JSON = "application/json"
CUT_OFF = "workflow_server.cut_off"  # the extension of a scope that closes its connection
SMALL = 1 << 18  # bytes of an answer that is sent at once, and needs no slot
WRITE_BYTES = 1 << 16
STALLED = 60.0  # seconds after which a client that takes nothing of a large answer is cut off
SLOWEST = 1 << 16  # bytes a second that a client takes at least of one: others wait for its slot


class LargeAnswer(Response):
    """Answer that goes out as it is taken.

    It stays incomplete, and its connection is closed, where a client takes nothing for `STALLED`
    seconds, or has not taken the whole in that time and the time that `SLOWEST` takes.
    """

    def __init__(
        self, pieces: Sequence[bytes], status_code: int, headers: Mapping[str, str] | None
    ) -> None:
        super().__init__(status_code=status_code, headers=headers, media_type=JSON)
        self.headers["content-length"] = str(size_of(pieces))
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        try:
            async with asyncio.timeout(STALLED + size_of(self._pieces) / SLOWEST):
                for part in self._parts():
                    async with asyncio.timeout(STALLED):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
        except TimeoutError:
            cut_off(scope)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _parts(self) -> Iterator[bytes]:
        for piece in self._pieces:
            for start in range(0, len(piece), WRITE_BYTES):
                yield piece[start : start + WRITE_BYTES]


def cut_off(scope: Scope) -> None:
    """Close the connection of a request in the middle of its answer.

    Another server than ours does that itself, when the answer's task ends, and logs an error.
    """
    method = scope.get("extensions", {}).get(CUT_OFF)
    close = method() if method is not None else None
    if close is not None:
        close()


def answer_in_pieces(
    pieces: Sequence[bytes], status_code: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer that has these pieces of JSON."""
    if size_of(pieces) > SMALL:
        return LargeAnswer(pieces, status_code, headers)
    body = b"".join(pieces)
    return Response(body, status_code=status_code, headers=headers, media_type=JSON)


def size_of(pieces: Sequence[bytes]) -> int:
    """Return how many bytes the pieces have together."""
    return sum([len(piece) for piece in pieces])
