"""Copies of a store that are made while its server works and is killed, and what they must hold.

Each run of a copy is as of one moment: its events are the first ones of those that the clients saw,
and its record says the same. A server that is started over a copy goes on with its runs.
"""

import asyncio
import json
import secrets
import signal
import sqlite3
from asyncio.subprocess import PIPE
from contextlib import closing, suppress
from pathlib import Path

import asyncpg
import httpx

from tests.durability.crash.conduct import Conduct
from tests.durability.crash.process import ServerProcess
from tests.durability.crash.witness import TERMINAL
from tests.support.backends import opened_store
from tests.support.postgres import schema_of
from tests.support.waiting import DEADLINE, until
from workflow_server.schemas.listings import HandlerPosition, HandlerQuery
from workflow_server.schemas.records import (
    Phase,
    RunRecord,
)
from workflow_server.stores.base import Store

GOES_ON = 180.0  # seconds in which the runs of a copy end that need nobody
UNATTENDED = ("walker", "streamer", "fan", "rester", "retrier", "timer", "stormer")
PAGE = 200


class Copies:
    """The copies of a store, made in turn by each way that the documentation names."""

    def __init__(self, store: str, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._databases: list[str] = []
        self.urls: list[str] = []
        self.runs = 0
        self.resumed = 0
        self.violations: list[str] = []

    async def make(self) -> None:
        """Make a copy."""
        if self._store.startswith("sqlite"):
            target = self._folder / f"copy-{len(self.urls)}.db"
            copy = (back_up, vacuum)[len(self.urls) % 2]
            await asyncio.to_thread(copy, self._store.removeprefix("sqlite:///"), target)
            self.urls.append(f"sqlite:///{target}")
        else:
            self.urls.append(await self._dump())

    async def remove(self) -> None:
        """Remove the databases that were made."""
        for name in self._databases:
            await execute(self._store, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def check(self, conducted: list[Conduct]) -> None:
        """Hold the copies to what the clients have seen until now, and let their runs go on."""
        for url in self.urls:
            async with opened_store(url) as store:
                unattended = await self._compare(store, conducted)
            await self._go_on(url, unattended)

    async def _dump(self) -> str:
        """Dump the schema, and restore it into a database of its own."""
        name = f"copy_{secrets.token_hex(6)}"
        await execute(self._store, f"CREATE DATABASE {name}")
        self._databases.append(name)
        source, schema = address_of(self._store), schema_of(self._store)
        restored = f"{source.rpartition('/')[0]}/{name}"
        dump = await run_program("pg_dump", "-n", schema, source)
        await run_program("psql", "-q", "-v", "ON_ERROR_STOP=1", restored, given=dump)
        return f"{restored}?schema={schema}"

    async def _compare(self, store: Store, conducted: list[Conduct]) -> list[str]:
        """Compare a copy with what was seen; return the ids of its runs that need nobody."""
        unattended: list[str] = []
        known = {conduct.name: conduct for conduct in conducted}
        for record in await list_records(store):
            self.runs += 1
            conduct = known.get(record.handler_id)
            if conduct is not None and not conduct.is_gone:
                await self._compare_run(store, record, conduct)
            if record.workflow_name in UNATTENDED and record.phase is not Phase.ENDED:
                unattended.append(record.handler_id)
        return unattended

    async def _compare_run(self, store: Store, record: RunRecord, conduct: Conduct) -> None:
        """See that the events of a run are the first ones of those that were seen, and its end."""
        events = conduct.witness.events
        following = record.first_sequence
        while page := await store.read_events(record.run_id, after=following - 1, limit=1_000):
            for event in page:
                if event.sequence != following:
                    self._blame(record, f"event {event.sequence} comes for {following}")
                seen = events.get(event.sequence)
                if seen is not None and seen != event.envelope.decode():
                    self._blame(record, f"event {event.sequence} is {event.envelope!r}, not {seen}")
                following = event.sequence + 1
        if record.phase is Phase.ENDED and following != record.next_sequence:
            self._blame(record, f"it has ended with {record.next_sequence}, and has {following}")
        if record.phase is not Phase.ENDED and is_terminal(events.get(following - 1)):
            self._blame(record, "it has its last event, and goes on")

    async def _go_on(self, url: str, unattended: list[str]) -> None:
        """Serve a copy, and see that its runs come to their ends, beside what others do."""
        folder = self._folder / f"served-{self.urls.index(url)}"
        folder.mkdir()
        server = ServerProcess(url, folder, idle_timeout=1.0)
        await server.start()
        try:
            await server.wait_healthy()
            async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client:
                for handler_id in unattended:
                    await self._await_end(client, handler_id, url)
        finally:
            await server.end(signal.SIGTERM)

    async def _await_end(self, client: httpx.AsyncClient, handler_id: str, url: str) -> None:
        async def has_ended() -> bool:
            handler = (await client.get(f"/handlers/{handler_id}")).json()
            return bool(handler["status"] != "running")

        with suppress(TimeoutError, AssertionError):
            await until(has_ended, within=GOES_ON)
        handler = (await client.get(f"/handlers/{handler_id}")).json()
        self.resumed += 1
        if handler["status"] != "completed":
            self.violations.append(f"{handler_id} of {url} became {handler}")

    def _blame(self, record: RunRecord, sentence: str) -> None:
        self.violations.append(f"copy of {record.handler_id}: {sentence}")

    def __str__(self) -> str:
        return (
            f"{len(self.urls)} copies opened, {self.runs} of their runs compared and"
            f" {self.resumed} gone on, {len(self.violations)} violations"
        )


def back_up(source: str, target: Path) -> None:
    """Copy a file as SQLite's own backup does."""
    with closing(sqlite3.connect(source)) as runs, closing(sqlite3.connect(target)) as copy:
        runs.backup(copy)


def vacuum(source: str, target: Path) -> None:
    """Copy a file without the room that is free in it."""
    with closing(sqlite3.connect(source)) as runs:
        runs.execute("VACUUM INTO ?", (str(target),))


async def list_records(store: Store) -> list[RunRecord]:
    """Return the current runs of all handlers that no tenant owns."""
    records: list[RunRecord] = []
    after: HandlerPosition | None = None
    while page := (await store.list_handlers(HandlerQuery(limit=PAGE, after=after))).records:
        records += page
        after = HandlerPosition(page[-1].handler_created_at, page[-1].handler_id)
    return records


def is_terminal(envelope: str | None) -> bool:
    """Return whether an event says that its run did not complete."""
    return envelope is not None and json.loads(envelope)["type"] in TERMINAL


def address_of(store: str) -> str:
    """Return the URL of the database of a store."""
    return store.partition("?")[0]


async def execute(store: str, statement: str) -> None:
    """Let the database of a store execute a statement."""
    connection = await asyncpg.connect(address_of(store))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def run_program(*command: str, given: bytes | None = None) -> bytes:
    """Return what a program writes, to which something may be given; it must not fail."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    written, errors = await process.communicate(given)
    assert process.returncode == 0, errors.decode()
    return written
