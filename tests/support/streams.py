"""Readers of event streams."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Frame:
    """An SSE event: its id and its envelope."""

    sequence: int
    envelope: dict[str, Any]

    @property
    def type(self) -> str:
        """The name of the event's class."""
        name: str = self.envelope["type"]
        return name

    @property
    def value(self) -> dict[str, Any]:
        """The event's fields."""
        value: dict[str, Any] = self.envelope["value"]
        return value


async def iterate_frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """Yield the events of an open SSE response; comments are passed over."""
    sequence: int | None = None
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        match field:
            case "id":
                sequence = int(value)
            case "data":
                assert sequence is not None, "data without an id"
                yield Frame(sequence, json.loads(value))
                sequence = None
            case "" | "retry":
                continue
            case other:
                raise AssertionError(f"an SSE field that the contract does not know: {other!r}")


async def read_frames(
    client: httpx.AsyncClient, handler_id: str, **query: str | int | bool
) -> list[Frame]:
    """Return all events of a stream, from the first on unless the query says otherwise."""
    params = {"after_sequence": -1, **query}
    async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
        if response.status_code == 204:
            return []
        assert response.status_code == 200, await response.aread()
        return [frame async for frame in iterate_frames(response)]


async def read_until(
    client: httpx.AsyncClient,
    handler_id: str,
    is_last: Callable[[Frame], bool],
    **query: str | int | bool,
) -> list[Frame]:
    """Return the events of a stream up to the first that is the last wanted, and disconnect."""
    params = {"after_sequence": -1, **query}
    frames: list[Frame] = []
    async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
        assert response.status_code == 200, await response.aread()
        async for frame in iterate_frames(response):
            frames.append(frame)
            if is_last(frame):
                return frames
    raise AssertionError(f"the stream ended before: {frames}")


async def take(
    client: httpx.AsyncClient, handler_id: str, count: int, **query: str | int | bool
) -> list[Frame]:
    """Return the first `count` events of a stream, and disconnect."""
    left = iter(range(count - 1, -1, -1))
    return await read_until(client, handler_id, lambda _frame: next(left) == 0, **query)


@asynccontextmanager
async def shared_reader(
    client: httpx.AsyncClient, handler_id: str, **query: str | int | bool
) -> AsyncIterator[AsyncIterator[Frame]]:
    """Yield the events of a reader without a cursor, which reads until the end of the block."""
    async with client.stream("GET", f"/events/{handler_id}", params=query) as response:
        assert response.status_code == 200, await response.aread()
        yield iterate_frames(response)
