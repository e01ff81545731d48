"""Fresh places in a Postgres: `python -m benchmarks.databases ACTION URL`, in our environment.

`create` and `drop` are for what the URL names: its `?schema=`, else its whole database; `size`
prints the bytes that it takes.
"""

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg

SCHEMA_SIZE = """
    SELECT sum(pg_total_relation_size(pg_class.oid))::bigint FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relkind = 'r'
"""
DATABASE_SIZE = "SELECT pg_database_size(current_database())"


async def act(action: str, url: str) -> int:
    """Carry out an action; return the bytes for `size`, else 0."""
    parts = urlsplit(url)
    schema = parse_qs(parts.query).get("schema", [None])[0]
    database = parts.path.removeprefix("/")
    inside = schema is not None or action == "size"
    address = urlunsplit(parts._replace(query="", path=parts.path if inside else "/postgres"))
    connection = await asyncpg.connect(address)
    try:
        match action, schema:
            case "create", None:
                await connection.execute(f'CREATE DATABASE "{database}"')
            case "create", _:  # our server makes its schema itself
                await connection.execute("SELECT 1")
            case "drop", None:
                await connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            case "drop", _:
                await connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
            case "size", None:
                return int(await connection.fetchval(DATABASE_SIZE))
            case "size", _:
                return int(await connection.fetchval(SCHEMA_SIZE, schema) or 0)
    finally:
        await connection.close()
    return 0


if __name__ == "__main__":
    sys.stdout.write(str(asyncio.run(act(*sys.argv[1:]))))
