"""A proxy of TCP that can hold all that passes through it, or cut it off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TcpProxy:
    """Passes bytes on while it is `open`; connections stay up while it is not.

    What the target answers is passed on while `answers` is set. It is cleared when a client has
    sent `last_heard` and then sends more, which still reaches the target.
    """

    def __init__(self, host: str, port: int) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.last_heard: bytes | None = None
        self.port = 0
        self._is_cut = False
        self._target = host, port
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a client with the target."""
        await self.open.wait()
        if self._is_cut:
            writer.close()
            return
        target_reader, target_writer = await asyncio.open_connection(*self._target)
        for passing in (
            self._pass_on(reader, target_writer, is_answer=False),
            self._pass_on(target_reader, writer, is_answer=True),
        ):
            task = asyncio.create_task(passing)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        has_heard = False
        try:
            while data := await reader.read(1 << 16):
                await self.open.wait()
                if is_answer:
                    await self.answers.wait()
                elif has_heard:
                    self.answers.clear()
                    self.last_heard, has_heard = None, False
                else:
                    has_heard = self.last_heard is not None and self.last_heard in data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the other end has gone
        finally:
            writer.close()

    async def cut(self) -> None:
        """Cut all connections, and take no new ones."""
        self._is_cut = True
        await self.stop()

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    async def stop(self) -> None:
        """Cut all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def tcp_proxy(host: str, port: int) -> AsyncIterator[TcpProxy]:
    """Yield a proxy on a free port of loopback."""
    proxy = TcpProxy(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.open.set()
        proxy.answers.set()
        await proxy.stop()
