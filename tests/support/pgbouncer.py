"""A PgBouncer before the Postgres of the tests."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.ports import find_port
from tests.support.postgres import DEFAULT, VARIABLE
from tests.support.waiting import until


@asynccontextmanager
async def pooled(**settings: str) -> AsyncIterator[str]:
    """Yield the URL of the database through a pooler with these settings."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail("There is no pgbouncer.")
        pytest.skip("There is no pgbouncer.")
    database = urlsplit(os.environ.get(VARIABLE, DEFAULT))
    port = find_port()
    options = {"listen_addr": "127.0.0.1", "listen_port": str(port), "auth_type": "any"}
    target = f"host={database.hostname} port={database.port or 5432} user={database.username}"
    written = "\n".join(f"{name} = {value}" for name, value in {**options, **settings}.items())
    user = ("-u", "nobody") if os.getuid() == 0 else ()  # root is refused
    url = f"postgresql://{database.username}@127.0.0.1:{port}{database.path}"
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        config = Path(folder) / "pgbouncer.ini"
        config.write_text(f"[databases]\n* = {target}\n[pgbouncer]\nunix_socket_dir =\n{written}\n")
        process = await asyncio.create_subprocess_exec(program, "-q", *user, str(config))
        try:
            await until(lambda: answers(url))
            yield url
        finally:
            process.terminate()
            await process.wait()


async def answers(url: str) -> bool:
    """Return whether a database can be reached."""
    try:
        connection = await asyncpg.connect(url, timeout=5, statement_cache_size=0)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True
