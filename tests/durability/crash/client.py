"""A client that keeps going while the server dies and comes back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx

RETRY_PAUSE = 0.05
CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=20)
HEARTBEAT = 2.0  # seconds between two of a stream, of every server that this client asks
SILENCE = 10 * HEARTBEAT  # seconds

Json = dict[str, Any]


class Unreachable(Exception):
    """The server did not answer: what was asked for may have been done or not."""


class Client:
    """Asks the server; what cannot be repeated harmlessly is left to the caller."""

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        transport = transport or httpx.AsyncHTTPTransport(limits=CONNECTIONS)
        self._http = httpx.AsyncClient(base_url=url, transport=transport, timeout=30)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def get(self, path: str, **params: Any) -> httpx.Response:
        """Ask until there is an answer."""
        while True:
            try:
                response = await self._http.get(path, params=params)
            except httpx.TransportError:
                await asyncio.sleep(RETRY_PAUSE)
                continue
            if response.status_code != 503:
                return response
            await asyncio.sleep(RETRY_PAUSE)

    async def post(self, path: str, body: Json) -> httpx.Response:
        """Ask once; `Unreachable` where there is no answer that says what was done."""
        try:
            response = await self._http.post(path, json=body)
        except httpx.TransportError as error:
            await asyncio.sleep(RETRY_PAUSE)
            raise Unreachable from error
        if response.status_code == 503 and "location" not in response.headers:
            await asyncio.sleep(RETRY_PAUSE)
            raise Unreachable
        return response

    async def read_events(self, handler_id: str, after: int) -> AsyncIterator[tuple[int, str]]:
        """Yield sequences and envelopes until the stream ends or the connection does.

        Raises `Unreachable` where the stream was cut off, and `TimeoutError` where it hangs.
        """
        params = {"after_sequence": after, "include_internal": True}
        url = f"/events/{handler_id}"
        try:
            async with self._http.stream(
                "GET", url, params=params, timeout=httpx.Timeout(30, read=SILENCE)
            ) as response:
                if response.status_code == 503:
                    raise Unreachable
                if response.status_code not in (200, 204):
                    raise AssertionError(f"{url}: {response.status_code}")
                sequence = -1
                async for line in response.aiter_lines():
                    field, _, value = line.partition(": ")
                    if field == "id":
                        sequence = int(value)
                    elif field == "data":
                        yield sequence, value
        except httpx.ReadTimeout as error:
            raise TimeoutError(f"{url} was silent for {SILENCE} s") from error
        except httpx.TransportError as error:
            raise Unreachable from error
