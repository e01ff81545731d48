"""Connections to the database that a URL names."""

import asyncio
import logging
import ssl
from asyncio.trsock import TransportSocket
from contextlib import AbstractAsyncContextManager, nullcontext
from socket import AddressFamily
from typing import TYPE_CHECKING, Any

import asyncpg

from workflow_server.stores.postgres_url import TIMEOUT, PostgresUrl

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
    PooledConnection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:  # generic in their stubs only
    Connection, Pool = asyncpg.Connection, asyncpg.Pool
    PooledConnection = asyncpg.pool.PoolConnectionProxy

logger = logging.getLogger(__name__)

# What Postgres, or a pooler, says of a setting that it does not know.
UNKNOWN_SETTING = (asyncpg.UndefinedObjectError, asyncpg.ProtocolViolationError)
LEFT_OUT = "parameter of the store's URL left out"


class SocketConnection(Connection):
    """Connection that shows its socket."""

    @property
    def socket(self) -> TransportSocket:
        """The socket beneath."""
        transport: asyncio.Transport = self._transport  # type: ignore[attr-defined]  # its stubs
        opened: TransportSocket = transport.get_extra_info("socket")
        return opened

    @property
    def local_host(self) -> str | None:
        """The address of this end; None where the other one is reached by a file."""
        is_file = self.socket.family == AddressFamily.AF_UNIX
        return None if is_file else str(self.socket.getsockname()[0])


class Connections:
    """Opens connections as a URL says; what of it nothing knows is left out with a warning.

    `is_transactional` says that a pooler may give each transaction another session. Connections
    that are opened then keep no statements, which are of a session.
    """

    def __init__(self, url: PostgresUrl) -> None:
        self.url = url
        self.is_transactional = False
        self._settings = dict(url.settings)

    async def open_pool(self, size: int) -> Pool:
        """Return a pool of connections that read, of which one is open."""
        for name in self.url.left_out:
            _warn(name, "the driver has no part of it")
        while True:
            try:
                pool: Pool = await asyncpg.create_pool(
                    min_size=1,
                    max_size=size,
                    connection_class=SocketConnection,
                    init=self._keep_alive,
                    **self._arguments,
                )
                return pool
            except UNKNOWN_SETTING as error:
                self._leave_out(error)

    async def connect(self) -> SocketConnection:
        """Return a connection that is in no pool."""
        connection = await asyncpg.connect(connection_class=SocketConnection, **self._arguments)
        await self._keep_alive(connection)
        return connection

    def keep_session(
        self, connection: Connection | PooledConnection
    ) -> AbstractAsyncContextManager[object]:
        """Return what keeps a connection's session for the statements in it, as one transaction.

        Where each connection has a session of its own, that is nothing.
        """
        return connection.transaction() if self.is_transactional else nullcontext()

    @property
    def _arguments(self) -> dict[str, Any]:
        trusted = {"ssl": ssl.create_default_context()} if self.url.trusts_system else {}
        return {
            "dsn": self.url.dsn,
            "timeout": self.url.timeout,
            "command_timeout": TIMEOUT,
            **({"statement_cache_size": 0} if self.is_transactional else {}),
            "server_settings": self._settings,
            **trusted,
        }

    def _leave_out(self, error: BaseException) -> None:
        """Forget the setting that was refused; raise the error where it names none."""
        refused = [name for name in self._settings if f'"{name}"' in str(error)]
        refused += [name for name in self._settings if str(error).endswith(f": {name}")]
        if not refused:
            raise error
        del self._settings[refused[0]]
        _warn(refused[0], "Postgres does not know it")

    async def _keep_alive(self, connection: Connection) -> None:
        assert isinstance(connection, SocketConnection)  # for which its opener is asked
        if connection.socket.family != AddressFamily.AF_UNIX:
            for option in self.url.socket_options:
                connection.socket.setsockopt(*option)


def _warn(parameter: str, reason: str) -> None:
    logger.warning(LEFT_OUT, extra={"parameter": parameter, "reason": reason})
