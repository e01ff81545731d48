"""Rolling restarts: a server that is told to end, again and again, while clients use it.

No request may fail otherwise than so that it can be made again: with 503 and `Retry-After`, or
because nobody listens, or on a connection that was kept from an earlier request, and was being
closed. A stream that ends before its run has told its reader to come back.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urljoin

import httpx

from tests.durability.crash.client import CONNECTIONS, RETRY_PAUSE, Unreachable
from tests.durability.crash.harness import Harness
from tests.durability.crash.witness import TERMINAL

FEWEST_RESTARTS = 3  # however long a start takes
RETRY = b"retry: 1000\n\n"
CONNECTED = "connection.connect_tcp.complete"
SSE = "text/event-stream"
WALK = 100  # steps: longer than the server's grace


@dataclass
class Tally:
    """What became of the requests; `faults` are sentences."""

    requests: int = 0
    answered: int = 0
    unavailable: int = 0
    refused: int = 0
    closed: int = 0
    dropped: int = 0
    sent_away: int = 0
    followed: int = 0
    restarts: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.restarts} restarts, {self.requests} requests: {self.answered} answered,"
            f" {self.unavailable} times 503 with Retry-After, {self.refused} times nobody listened,"
            f" {self.closed} kept and {self.dropped} fresh connections closed before the answer;"
            f" {self.sent_away} readers told to come back,"
            f" {self.followed} waiting clients told where to look; {len(self.faults)} faults"
        )


class WatchedTransport(httpx.AsyncHTTPTransport):
    """Counts requests, and blames the server for failures that no client can put right."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(limits=CONNECTIONS)
        self._tally = tally

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass the request on, and look at how it is answered."""
        tally = self._tally
        tally.requests += 1
        steps: list[str] = []

        async def note(step: str, _facts: dict[str, Any]) -> None:
            steps.append(step)

        request.extensions["trace"] = note
        try:
            response = await super().handle_async_request(request)
        except httpx.ConnectError:
            tally.refused += 1
            raise
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if CONNECTED in steps:
                tally.dropped += 1
            else:
                tally.closed += 1
            raise
        if response.status_code == 503 and "retry-after" in response.headers:
            tally.unavailable += 1
        elif response.status_code >= 500 and not await _shows_cancelled(response):
            tally.faults.append(f"{request.method} {request.url}: {response.status_code}")
        else:
            tally.answered += 1
        if response.status_code == 204:
            await self._check_ended(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        streams = response.headers.get("content-type", "").startswith(SSE)
        response.stream = WatchedBody(response.stream, str(request.url), tally, streams=streams)
        return response

    async def _check_ended(self, request: httpx.Request) -> None:
        """See that a run of which no events are left has ended."""
        url = request.url.copy_with(path=request.url.path.replace("/events/", "/handlers/"))
        with suppress(httpx.TransportError):
            handler = await super().handle_async_request(httpx.Request("GET", url))
            await handler.aread()
            if handler.status_code == 202:
                self._tally.faults.append(f"{request.url}: 204, and the run has not ended")


async def _shows_cancelled(response: httpx.Response) -> bool:
    """Return whether an answer is a handler that was cancelled, which has the status 500."""
    return response.status_code == 500 and b'"status":"cancelled"' in await response.aread()


class WatchedBody(httpx.AsyncByteStream):
    """Passes the body of an answer on, and sees that it comes to its end."""

    def __init__(
        self, body: httpx.AsyncByteStream, url: str, tally: Tally, *, streams: bool
    ) -> None:
        self._body = body
        self._url = url
        self._tally = tally
        self._streams = streams

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        tail = b""
        try:
            async for chunk in self._body:
                tail = (tail + chunk)[-100_000:]
                yield chunk
        except httpx.TransportError as error:
            self._tally.faults.append(f"{self._url} was cut off: {error!r}")
            raise
        if not self._streams:
            return
        if tail.endswith(RETRY):
            self._tally.sent_away += 1
        elif not _ends_a_run(tail):
            self._tally.faults.append(f"{self._url} ended without an end: {tail[-200:]!r}")

    async def aclose(self) -> None:
        """Close the body."""
        await self._body.aclose()


def _ends_a_run(tail: bytes) -> bool:
    """Return whether the last event of a stream is a terminal one."""
    event = json.loads(tail.rpartition(b"data: ")[2])
    return event["type"] in TERMINAL | {"StopEvent"}


class RollingRestarts(Harness):
    """Tells the server to end and starts it again, with clients that wait for runs besides."""

    waiters: ClassVar[int] = 8

    def __init__(self, store: str, folder: Path, **options: Any) -> None:
        self.tally = Tally()
        super().__init__(store, folder, transport=WatchedTransport(self.tally), **options)

    async def _disturb(self, deadline: float) -> None:
        slots = range(self.waiters)
        waiters = [asyncio.create_task(self._wait(slot, deadline)) for slot in slots]
        while self._goes_on(deadline):
            await asyncio.sleep(self._uptime)
            await self._restart()
        await asyncio.gather(*waiters)

    def _goes_on(self, deadline: float) -> bool:
        return super()._goes_on(deadline) or self.tally.restarts < FEWEST_RESTARTS

    async def _restart(self) -> None:
        """Tell the server to end, and start the next one."""
        self._note_end(await self._server.end(signal.SIGTERM))
        await self._server.start()
        await self._server.wait_healthy()

    def _note_end(self, status: int | None) -> None:
        """Count a server that was told to end, and has ended with a status."""
        if status != 0:
            self.tally.faults.append(f"a server ended with status {status}")
        self.tally.restarts += 1

    async def _wait(self, slot: int, deadline: float) -> None:
        """Run one workflow after the other to its end, as a client does that waits."""
        count = 0
        while self._goes_on(deadline):
            name = f"waited-for-{slot}-{count}"
            handler = await self._run_to_end(name)
            result = (handler["result"] or {}).get("value")
            if handler["status"] != "completed" or result != {"result": WALK}:
                self.tally.faults.append(f"{name} ended as {handler}")
            count += 1

    async def _run_to_end(self, name: str) -> dict[str, Any]:
        body = {"handler_id": name, "start_event": {"name": name, "size": WALK}}
        while True:
            with suppress(Unreachable):
                response = await self._client.post("/workflows/walker/run", body)
                if response.status_code != 503:
                    return await self._follow(f"/handlers/{name}")
                self.tally.followed += 1
                return await self._follow(urljoin(str(response.url), response.headers["location"]))
            if (await self._client.get(f"/handlers/{name}")).status_code != 404:
                return await self._follow(f"/handlers/{name}")

    async def _follow(self, url: str) -> dict[str, Any]:
        """Ask for a handler until it has ended."""
        while True:
            response = await self._client.get(url)
            handler: dict[str, Any] = response.json()
            if response.status_code != 202:
                return handler
            await asyncio.sleep(RETRY_PAUSE)
