"""Connections: how much a client may send before its request is known, and how long it may take.

uvicorn bounds neither. Here it is looked once a second at what the client of each connection owes,
the rest of a request, or that it takes something of an answer, and for how long: that costs a
request nothing.
"""

import asyncio
import select
from collections.abc import Callable, Iterable
from http import HTTPStatus
from types import FrameType
from typing import Any, Literal, Protocol
from weakref import WeakMethod

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from workflow_server.app.errors import BadRequest, ServiceError
from workflow_server.app.forks import drop_in_children
from workflow_server.app.http.answers import answer_before_the_body, answer_without_chunks
from workflow_server.app.http.framing import (
    OLDER,
    UNKNOWN_VERSION,
    find_fault,
    refuse_version,
    repeat_without_upgrade,
)
from workflow_server.app.http.listeners import accept_last
from workflow_server.app.http_errors import ClientTooSlow, HeadTooLarge, TooManyConnections
from workflow_server.app.settings import Limits
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.routers.large_answers import CUT_OFF
from workflow_server.routers.problems import service_problem

logger = get_logger(__name__)

Owed = Literal["head", "body"]

KEEP_ALIVE = 75  # seconds that a connection may be idle; longer than proxies and clients keep one
LINGER = 0.2  # seconds that a further request may be on its way when the server stops
HURRIED = 1.0  # seconds in which a client must take something then, or send its first request
TURNS = 3  # of the event loop, which after a pause calls timers before it looks at its sockets
MOST_PIPELINED = 100  # requests of a connection that wait for the one before them
TICKS_BETWEEN_LOOKS = 10  # of uvicorn's, a tenth of a second each
HUNG_UP = getattr(select, "POLLRDHUP", 0)  # where a kernel tells it; that both sides did is told


class Connection(HttpToolsProtocol):
    """A connection of a client, with limits; `make_connection_class` sets them."""

    # Beside uvicorn's attributes, which are about as many as a dictionary holds at little cost.
    __slots__ = (
        *("_owed", "_owed_by", "_owed_since"),
        *("_stalled_since", "_unparsed", "_fault", "_served"),
    )
    limits: Limits
    # Those that wait for a further request, the one that has waited longest first.
    idle: "dict[Connection, None]"
    leaving = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._owed: Owed | None = None
        self._owed_by: RequestResponseCycle | None = None
        self._owed_since = 0.0
        self._stalled_since: float | None = None
        self._unparsed = 0  # bytes that belong to no finished head, and to no body
        self._fault: ServiceError | None = None
        self._extensions = {CUT_OFF: WeakMethod(self.cut_off)}  # of the scope of each request
        self._served: RequestResponseCycle | None = None  # `cycle` is the last one that has come

    def look_after(self, now: float) -> None:
        """Close the connection if its client keeps the server waiting for too long."""
        if self.is_stalled(now, self.limits.client_timeout):
            self.drop("it reads nothing")
            return
        if self.flow.read_paused and self._has_hung_up():
            self.drop("it has hung up")
            return
        owed = self._find_owed()
        if owed is None or owed != self._owed or self.cycle is not self._owed_by:
            self._owed, self._owed_by, self._owed_since = owed, self.cycle, now
        elif now - self._owed_since <= self.limits.client_timeout:
            return
        elif owed == "head" and not self._unparsed:
            self.transport.close()  # who has sent nothing has asked for nothing
        else:
            self.refuse(ClientTooSlow(f"The {owed} of the request did not arrive in time."))

    def is_stalled(self, now: float, seconds: float) -> bool:
        """Return whether the client has taken nothing of an answer for so many seconds."""
        return self._stalled_since is not None and now - self._stalled_since > seconds

    def _has_hung_up(self) -> bool:
        """Return whether the client has; while nothing is read, nothing else notices that."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), HUNG_UP)
        return bool(poll.poll(0))

    def drop(self, reason: str) -> None:
        """Close the connection without sending what is left."""
        logger.info("client dropped", reason=reason)
        self.transport.abort()

    def cut_off(self) -> None:
        """Close the connection in the middle of the answer that it carries.

        The answer's task may end then, and is not blamed for what it leaves out.
        """
        self.drop("it takes its answer too slowly")
        if self._served is not None:
            self._served.disconnected = True

    def refuse(self, error: ServiceError) -> None:
        """Answer with a problem and close; where another answer is due, close at once."""
        if self.transport.is_closing():
            return
        if self._owes_another_answer():
            self.drop(error.detail)
            return
        self.transport.write(self._render(error))
        self.transport.close()

    def _owes_another_answer(self) -> bool:
        """Return whether what is sent now would be taken for the answer to an earlier request."""
        if self.pipeline:
            return True
        return self._is_answering() and (self.cycle.response_started or not self.cycle.more_body)

    def _find_owed(self) -> Owed | None:
        """Return what the client has yet to send, where it is the client that is waited for."""
        if not self._is_answering():
            return "head" if self.timeout_keep_alive_task is None else None
        return "body" if self.cycle.more_body and not self.flow.read_paused else None

    def _render(self, error: ServiceError) -> bytes:
        response = service_problem(error)
        status = HTTPStatus(error.status)
        lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
        headers = [*self.server_state.default_headers, *response.raw_headers]
        lines += [name + b": " + value for name, value in headers]
        return b"\r\n".join([*lines, b"connection: close", b"", bytes(response.body)])

    def shutdown(self) -> None:
        """Close the connection after the request that is being answered, or is on its way.

        The first one may take longer: its client has just connected, and keeps no others.
        """
        if self._is_answering():
            super().shutdown()
        elif self.cycle is not None:
            self.loop.call_later(LINGER, self.leave)

    def leave(self, turns: int = TURNS) -> None:
        """Close the connection where it carries no request, and none has come."""
        if turns:
            self.loop.call_soon(self.leave, turns - 1)
        elif not self._is_answering():
            self.transport.close()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    # What the transport calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's narrower type
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections and not self._take_place():
            self.refuse(TooManyConnections("The server has as many connections as it may."))

    def _take_place(self) -> bool:
        """Close the connection that has been idle for longest; return whether there is one."""
        longest = next(iter(self.idle), None)
        if longest is None:
            return False
        del self.idle[longest]
        longest.transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # else that keeps a connection that was reset
        self.idle.pop(self, None)
        # uvicorn tells the last request alone, which may still wait for the one that is served.
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self.idle.pop(self, None)
        self._unparsed += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self.refuse(self._fault or _explain(error))
        else:
            if self._unparsed > self.limits.max_header_size:
                self.refuse(self._tell_head_too_large())

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = memoryview(data)[upgrade.args[0] :]
                head = repeat_without_upgrade(*self._read_head())
                self.parser = httptools.HttpRequestParser(self)
                # As uvicorn's: what comes after the last request of a connection is passed over.
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)
            else:
                return

    def pause_writing(self) -> None:
        self._stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()

    # What the parser calls.

    def on_headers_complete(self) -> None:
        limit = self.limits.max_header_size
        if self._unparsed > limit and self._measure_head() > limit:
            self._fault = self._tell_head_too_large()
        elif len(self.pipeline) >= MOST_PIPELINED:
            self._fault = BadRequest("Too many requests of the connection wait for an answer.")
        else:
            self._fault = find_fault(*self._read_head())
        if self._fault is not None:
            raise httptools.HttpParserError("The head is refused.")
        if self.parser.should_upgrade():
            return  # It comes again.
        super().on_headers_complete()
        self._unparsed = 0
        self.headers = []  # Trailers, which belong to no head.
        if self.leaving:
            self.cycle.keep_alive = False
        if self.scope["http_version"] == OLDER:
            answer_without_chunks(self.cycle)
        elif self.expect_100_continue:
            answer_before_the_body(self.cycle)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()
        if self.timeout_keep_alive_task is not None:
            self.idle[self] = None

    def on_body(self, body: bytes) -> None:
        self._unparsed -= len(body)
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """Forget the line that begins a chunk; those after the last one may be trailers."""
        self._unparsed = 0

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        cycle.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]  # a method of ours
        super()._start_asgi_task(cycle, app)

    def _read_head(self) -> tuple[str, bytes, bytes, list[tuple[bytes, bytes]]]:
        version, method = self.parser.get_http_version(), self.parser.get_method()
        return version, method, self.url, self.headers

    def _tell_head_too_large(self) -> HeadTooLarge:
        return HeadTooLarge(
            f"The request line and headers have more than {self.limits.max_header_size} bytes,"
            " and no more are allowed."
        )

    def _measure_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)


def _explain(error: httptools.HttpParserError) -> ServiceError:
    if str(error) in UNKNOWN_VERSION:
        return refuse_version()
    return BadRequest("What was sent is no request of HTTP/1.1.")


def make_connection_class(limits: Limits) -> type[Connection]:
    """Return the class of connections with these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits, "idle": {}})


class Stopping(Protocol):
    """The server behind the connections, stopped before them: uvicorn waits for each to close."""

    async def drain(self, grace: float) -> None:
        """Take on nothing new, let what is at work end for `grace` seconds, then `dismiss`."""

    def dismiss(self) -> None:
        """End every stream, and answer every request that waits for a run; again does no harm."""


class HttpServer(uvicorn.Server):
    """Looks after its connections; drains when a signal asks it to stop, a second one hurries.

    `on_signal` is called at each, at once, whatever the event loop does.
    """

    def __init__(self, config: uvicorn.Config, stopping: Stopping, *, grace: float) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None
        self.on_signal: Callable[[], None] | None = None
        drop_in_children(self._find_descriptors)

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_BETWEEN_LOOKS == 0:
            for connection in self._list_connections():
                connection.look_after(self._loop.time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: Any = None) -> None:
        self._let_connections_end()
        await accept_last(self.servers)
        timer = self._loop.call_later(HURRIED, self._hurry)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop, sig, frame)
        if self.on_signal is not None:
            self.on_signal()

    def _let_connections_end(self) -> None:
        """Let every connection end with the request that it carries, or is about to."""
        served_by = self.config.http_protocol_class
        if issubclass(served_by, Connection):  # `uvicorn_config` may bring another class.
            served_by.leaving = True

    def _hurry(self) -> None:
        for connection in self._list_connections():
            if connection.is_stalled(self._loop.time(), HURRIED):
                connection.drop("the server stops, and it reads nothing")
            else:
                connection.leave()

    def _find_descriptors(self) -> Iterable[int]:
        servers = getattr(self, "servers", ())  # there are none before it listens
        sockets = [listener for server in servers for listener in server.sockets]
        sockets += [item.transport.get_extra_info("socket") for item in self._list_connections()]
        return [descriptor for item in sockets if (descriptor := item.fileno()) >= 0]

    def _list_connections(self) -> list[Connection]:
        return [item for item in self.server_state.connections if isinstance(item, Connection)]

    def _stop(self, sig: int, frame: FrameType | None) -> None:
        if self._draining is None:
            self._draining = self._loop.create_task(self._drain(sig, frame), name="drain")
        else:
            self._stopping.dismiss()
            super().handle_exit(sig, frame)

    async def _drain(self, sig: int, frame: FrameType | None) -> None:
        logger.info("draining", grace=self._grace)
        self._let_connections_end()
        await self._stopping.drain(self._grace)
        super().handle_exit(sig, frame)
