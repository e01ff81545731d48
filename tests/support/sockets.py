"""Clients that do what no HTTP library does: stop reading, vanish, send half a request."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

AT_ONCE = struct.pack("ii", 1, 0)  # of SO_LINGER: on, for no time


@dataclass(frozen=True)
class Connection:
    """A TCP connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_head(self) -> str:
        """Return the status line and the headers of the answer."""
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def read_status(self) -> int:
        """Return the status code of the answer."""
        return int((await self.read_head()).split()[1])

    async def send(self, *lines: str) -> None:
        """Send the lines of a request's head, and the blank line after them."""
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()

    def reset(self) -> None:
        """Vanish at once, with all that is on its way.

        A mere close tells the server only after what the kernel still holds, which nobody may read.
        """
        connected = self.writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.writer.transport.abort()


@asynccontextmanager
async def connect(client: httpx.AsyncClient) -> AsyncIterator[Connection]:
    """Yield a connection to the server of a client; it vanishes at the end of the block."""
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1 << 16)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def read_stream(
    client: httpx.AsyncClient, handler_id: str, query: str
) -> AsyncIterator[Connection]:
    """Yield a connection that asked for an event stream; the reader vanishes at the end."""
    async with connect(client) as connection:
        await connection.send(f"GET /events/{handler_id}?{query} HTTP/1.0", "Host: localhost")
        yield connection
