"""The way to a database, shut and opened again: as seen from here, the database restarts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Gateway:
    """Passes connections on to a host, until it is shut: then all end, and none is accepted."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._port = 0
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()

    async def open(self) -> int:
        """Accept connections, on the same port as before; return it."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self._port

    def shut(self) -> None:
        """Let every connection break, and accept none."""
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._ends |= {writer, back}
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
        self._ends -= {writer, back}


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # shut, or ended by the other side
    finally:
        writer.close()


@asynccontextmanager
async def gateway_to(url: str) -> AsyncIterator[tuple[str, Gateway]]:
    """Yield a URL that leads to the database through a gateway, and the gateway."""
    parts = urlsplit(url)
    gateway = Gateway(parts.hostname or "127.0.0.1", parts.port or 5432)
    port = await gateway.open()
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    try:
        yield parts._replace(netloc=f"{user}127.0.0.1:{port}").geturl(), gateway
    finally:
        gateway.shut()
