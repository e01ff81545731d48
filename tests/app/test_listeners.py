"""A listener is closed in order also where the kernel cannot be told to make no connections."""

import asyncio
import socket

from app.listeners import accept_last

SO_LOCK_FILTER = 44


async def test_a_kernel_that_takes_no_filter_keeps_nobody_from_ending() -> None:
    accepted = asyncio.Event()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)
        async with await asyncio.start_server(accept, sock=listener) as server:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            await accept_last([server])
            await accepted.wait()
            writer.close()
