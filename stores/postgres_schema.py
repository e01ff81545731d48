"""The schema of the Postgres store: its migrations, and whose it is."""

import zlib
from typing import TYPE_CHECKING

import asyncpg
from pydantic_core import from_json

from workflow_server.stores.base import StoreUnavailable
from workflow_server.stores.migrations import pending_migrations

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:  # generic in their stubs only
    Connection = asyncpg.Connection

MIGRATION_TIMEOUT = 3600.0  # a migration may rewrite every row
# The first halves of our advisory locks: of who owns a schema, and of who changes it.
OWNER_SPACE, CHANGE_SPACE = 0x57465356, 0x57465357
# Servers behind a pooler of transactions hold no lock; their heartbeats tell.
POOLED_ARE_ALIVE = (
    "SELECT EXISTS (SELECT FROM {schema}.incarnations"
    " JOIN {schema}.procrastinate_workers AS workers ON workers.id = worker_id"
    " WHERE is_pooled AND last_heartbeat > now() - interval '1 minute')"
)
POOLED = (
    "The schema '{}' is in use by servers with --replicas behind a pooler; stop those, and where"
    " they were killed, wait for a minute; or start this one with --replicas."
)


def lock_key(schema: str) -> int:
    """Return the second half of a schema's advisory locks."""
    return zlib.crc32(schema.encode()) - (1 << 31)


def hint_key(schema: str) -> int:
    """Return the first half of the locks that say which servers of a schema are connected."""
    return lock_key(f"{schema} is connected")


async def lock_schema(connection: Connection, schema: str) -> None:
    """Let no other server change the schema before the end of the transaction."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, $2)",
        CHANGE_SPACE,
        lock_key(schema),
        timeout=MIGRATION_TIMEOUT,
    )


async def migrate(connection: Connection, schema: str) -> None:
    """Bring a schema to the version of this release; one that is newer by additions stays so."""
    async with connection.transaction():
        await lock_schema(connection, schema)
        if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", schema):
            await connection.execute(f"CREATE SCHEMA {schema}")
        await connection.execute(f"SET LOCAL search_path TO {schema}")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)"
        )
        await connection.execute(
            "INSERT INTO schema_version (version) SELECT 0"
            " WHERE NOT EXISTS (SELECT FROM schema_version)"
        )
        # As a document, for early schemas have no `oldest`.
        made = from_json(
            await connection.fetchval("SELECT to_json(schema_version) FROM schema_version")
        )
        for new_version, sql in pending_migrations(
            "postgres", made["version"], where=f"The schema '{schema}'", oldest=made.get("oldest")
        ):
            await connection.execute(sql, timeout=MIGRATION_TIMEOUT)
            await connection.execute("UPDATE schema_version SET version = $1", new_version)


async def begin_incarnation(connection: Connection, schema: str) -> int:
    """Take the schema from the incarnation before; return the number of the new one.

    A batch of that one that is under way is waited for, and those after it write nothing.
    """
    async with connection.transaction():
        if await connection.fetchval("SELECT to_regclass($1)", f"{schema}.procrastinate_workers"):
            if await connection.fetchval(POOLED_ARE_ALIVE.format(schema=schema)):
                raise StoreUnavailable(POOLED.format(schema))
            # Those of many servers, which are dead: their incarnations go with them.
            await connection.execute(
                f"DELETE FROM {schema}.procrastinate_workers"
                f" WHERE id IN (SELECT worker_id FROM {schema}.incarnations)"
            )
        await connection.execute(f"DELETE FROM {schema}.incarnations")
        number: int = await connection.fetchval(
            f"INSERT INTO {schema}.incarnations DEFAULT VALUES RETURNING id"
        )
    return number
