"""The end of listening, at which nobody who has connected is turned away.

The kernel makes connections before a process accepts them, and resets those that nobody has
accepted when the listener is closed. So it is first told to make no new ones.
"""

import asyncio
import os
import selectors
import socket
import struct
import sys
from collections.abc import Sequence

from workflow_server.app.telemetry.logs import get_logger

logger = get_logger(__name__)

ARRIVAL = 0.1  # seconds that a handshake may still take; a longer one is reset
MOST_WAITING = 4096  # connections that are made and not accepted; the event loop takes one a turn

SO_ATTACH_FILTER = 26  # on all machines but PA-RISC and SPARC
# Instructions of the classic packet filter: code, jumps if true and false, operand.
DROP_SYN = (
    (0x30, 0, 0, 13),  # the flags of the segment
    (0x54, 0, 0, 0x12),  # of them SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone asks for a connection
    (0x06, 0, 0, 0),  # it is dropped: who sends it asks again in a second
    (0x06, 0, 0, 0xFFFFFFFF),  # all others are taken
)
TCP = (socket.AF_INET, socket.AF_INET6)


async def accept_last(servers: Sequence[asyncio.Server]) -> None:
    """Accept whoever has connected, so that the listeners can be closed.

    Whoever connects from now on finds nobody, or the next process that listens there. Where the
    kernel cannot be told so (it is not Linux, or not TCP, or does not let us), those who connect in
    the very last moment are still reset.
    """
    listeners = [listener for server in servers for listener in server.sockets]
    with selectors.DefaultSelector() as waiting:
        for listener in listeners:
            waiting.register(listener.fileno(), selectors.EVENT_READ)
            if sys.platform == "linux" and listener.family in TCP:
                _ignore_newcomers(listener.fileno())
        await asyncio.sleep(ARRIVAL)
        for _ in range(MOST_WAITING):
            if not waiting.select(0):
                return
            await asyncio.sleep(0)


def _ignore_newcomers(descriptor: int) -> None:
    import ctypes  # here, for a server needs it at its end only

    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_SYN))
    program = struct.pack("HL", len(DROP_SYN), ctypes.addressof(code))
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        except OSError as error:
            # Some kernels take no filters of those who have no privileges. They make only one more
            # connection then, until it is accepted.
            listener.listen(0)
            logger.info("newcomers are not held off", reason=str(error))
