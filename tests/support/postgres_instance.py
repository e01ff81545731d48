"""A Postgres of a test's own, in a folder of its own, which it may stop and restart."""

import asyncio
import os
import pwd
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

import asyncpg
import pytest

from tests.support.ports import find_port

USER = "postgres"
INSTALLED = Path("/usr/lib/postgresql")  # where Debian has its versions, none of them in the PATH
PATIENCE = 60.0  # seconds that Postgres may take to start or to stop


class PostgresInstance:
    """The database server of a folder; `url` leads to its one database."""

    def __init__(self, binaries: Path, folder: Path, port: int) -> None:
        self.url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        self._binaries = binaries
        self._folder = folder
        self._options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"

    async def create(self) -> None:
        """Make its files."""
        await self._run("initdb", "--username", USER, "--auth=trust", "--no-locale", "--no-sync")

    async def start(self) -> None:
        """Return when it takes connections."""
        log = str(self._folder / "log")
        await self._run("pg_ctl", "start", "--log", log, "--options", self._options)

    async def stop(self, mode: str) -> None:
        """Return when it is gone; `immediate` is as good as a crash."""
        await self._run("pg_ctl", "stop", "--mode", mode)

    async def restart(self, mode: str) -> None:
        """Stop it, and start it at once."""
        await self._run("pg_ctl", "restart", "--mode", mode, "--log", str(self._folder / "log"))

    async def set_read_only(self, value: bool) -> None:
        """Let all transactions that begin from now on be read-only, or not any more."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("SET default_transaction_read_only = off")
            setting = "on" if value else "off"
            await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {setting}")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    async def _run(self, program: str, *arguments: str) -> None:
        user = USER if os.geteuid() == 0 else None  # it refuses to run as root
        process = await asyncio.create_subprocess_exec(
            self._binaries / program,
            "--pgdata",
            self._folder / "data",
            *arguments,
            cwd=self._folder,
            stdout=DEVNULL,  # which the server that it leaves behind keeps open
            stderr=DEVNULL,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
        async with asyncio.timeout(PATIENCE):
            status = await process.wait()
        if status != 0:
            raise AssertionError(f"{program} {arguments} ended with {status}: {self._read_log()}")

    def _read_log(self) -> str:
        log = self._folder / "log"
        return log.read_text()[-2000:] if log.exists() else "nothing is logged"


@asynccontextmanager
async def postgres_instance() -> AsyncIterator[PostgresInstance]:
    """Yield a fresh instance that runs; it and its folder are gone afterwards."""
    binaries = _find_binaries()
    folder = Path(mkdtemp(prefix="postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, USER, USER)
    instance = PostgresInstance(binaries, folder, find_port())
    try:
        await instance.create()
        await instance.start()
        try:
            yield instance
        finally:
            await instance.stop("immediate")
    finally:
        shutil.rmtree(folder)


def _find_binaries() -> Path:
    """Return the folder of initdb and pg_ctl; without them the test is skipped, or fails in CI."""
    versions = sorted(INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = shutil.which("initdb") or next(map(str, reversed(versions)), None)
    if found is not None and (os.geteuid() != 0 or _is_user(USER)):
        return Path(found).parent
    missing = f"There is no initdb in the PATH or in {INSTALLED}, or no user {USER} to run it."
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


def _is_user(name: str) -> bool:
    return name in {entry.pw_name for entry in pwd.getpwall()}
