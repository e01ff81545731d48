"""Whoever has connected is served, and a listener is closed in order on any kernel."""

import asyncio
import socket
import threading
from collections import Counter
from typing import cast

import pytest
import uvloop

from tests.support.waiting import DEADLINE, until
from workflow_server.app.http.listeners import accept_last

SO_LOCK_FILTER = 44
CLIENTS, ENOUGH = 8, 200
PATIENCE = 0.5  # seconds; the kernel drops what asks for a connection, and is asked again in 1


class Greeter(asyncio.Protocol):
    """Greets who connects, and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        stream.write(b"hello")
        stream.close()


def connect_without_a_pause(
    family: socket.AddressFamily, address: tuple[str, int], seen: Counter[str]
) -> None:
    """Connect again and again, until nobody is there, and count what becomes of it."""
    while True:
        client = socket.socket(family)
        client.settimeout(PATIENCE)
        with client:
            try:
                client.connect(address)
            except (ConnectionRefusedError, TimeoutError):
                return
            client.settimeout(DEADLINE)
            try:
                seen["greeted" if client.recv(5) == b"hello" else "cut off"] += 1
            except OSError as error:
                seen[type(error).__name__] += 1


async def close_under_load(family: socket.AddressFamily, host: str) -> Counter[str]:
    """Return what became of clients that connect while a listener is closed."""
    loop = asyncio.get_running_loop()
    seen: Counter[str] = Counter()
    listener = socket.create_server((host, 0), family=family)
    server = await loop.create_server(Greeter, sock=listener)
    address = ("::1" if family == socket.AF_INET6 else "127.0.0.1", listener.getsockname()[1])
    arguments = (family, address, seen)
    clients = [
        threading.Thread(target=connect_without_a_pause, args=arguments) for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    await until(lambda: seen["greeted"] > ENOUGH)
    await accept_last([server])
    server.close()
    for client in clients:
        await asyncio.to_thread(client.join)
    return seen


@pytest.mark.parametrize(
    ("family", "host"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")],
)
def test_nobody_who_has_connected_is_turned_away(family: socket.AddressFamily, host: str) -> None:
    for _ in range(3):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            seen = runner.run(close_under_load(family, host))
        assert seen.keys() == {"greeted"}


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
