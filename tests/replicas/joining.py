"""Stores that share a schema, and what kills one of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.postgres import connect, schema_of
from tests.support.waiting import until
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.postgres_connections import SocketConnection
from workflow_server.stores.replicas import Peers, Pulse, Replicas

SETTINGS = Replicas(heartbeat=0.2, stale_after=1.0)


@asynccontextmanager
async def joined(url: str, replicas: Replicas = SETTINGS) -> AsyncIterator[PostgresStore]:
    """Yield a store that shares its schema, started."""
    store = PostgresStore(url, replicas=replicas)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@asynccontextmanager
async def beating(store: PostgresStore) -> AsyncIterator[Pulse]:
    """Yield the heartbeat of a store."""
    pulse = peers_of(store).open_pulse()
    try:
        yield pulse
    finally:
        await pulse.close()


def peers_of(store: PostgresStore) -> Peers:
    """Return the part of a shared store that is about other servers."""
    assert store.peers is not None
    return store.peers


async def bury(url: str, incarnation: int) -> None:
    """Let an incarnation be dead, as after a prune."""
    async with connect() as database:
        schema = schema_of(url)
        await database.execute(
            f"DELETE FROM {schema}.procrastinate_workers WHERE id ="
            f" (SELECT worker_id FROM {schema}.incarnations WHERE id = $1)",
            incarnation,
        )


async def age(url: str, incarnation: int, seconds: float) -> None:
    """Let the last heartbeat of an incarnation be this long ago."""
    async with connect() as database:
        schema = schema_of(url)
        await database.execute(
            f"UPDATE {schema}.procrastinate_workers"
            " SET last_heartbeat = now() - make_interval(secs => $2) WHERE id ="
            f" (SELECT worker_id FROM {schema}.incarnations WHERE id = $1)",
            incarnation,
            seconds,
        )


async def cut(store: PostgresStore) -> None:
    """Let the database close the connection that writes, which the store does not know yet."""
    assert store._writer is not None
    pid = store._writer.get_server_pid()
    async with connect() as database:
        await database.execute("SELECT pg_terminate_backend($1)", pid)
        ended = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)"
        await until(lambda: database.fetchval(ended, pid))


def part(store: PostgresStore) -> SocketConnection:
    """Let a store connect anew to write, and return the connection that it had, still open."""
    assert store._writer is not None
    earlier, store._writer = store._writer, None
    return earlier
