"""Heartbeats of servers that share a schema of Postgres, and claims of one another's runs.

The dead are listed in one statement and their runs are taken in another, by the numbers of the
dead: in one, the runs would be read later than the incarnations.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from workflow_server.schemas.records import Phase, ServerRecord, Suspect
from workflow_server.stores.base import StoreFenced
from workflow_server.stores.postgres_connections import Connections, SocketConnection
from workflow_server.stores.postgres_errors import ABORTED, ERRORS, retrying, unavailable
from workflow_server.stores.postgres_jobs import PostgresJobs
from workflow_server.stores.postgres_rows import row_to_member, row_to_whereabouts
from workflow_server.stores.postgres_schema import hint_key
from workflow_server.stores.postgres_slots import PostgresSlots
from workflow_server.stores.postgres_slots import Write as SlotWrite
from workflow_server.stores.postgres_statements import FENCE, FENCED, GET_SECRET, MAKE_SECRET
from workflow_server.stores.postgres_versions import (
    CLAIMED,
    FITS,
    RELEASE,
    UNCLAIMED,
    PostgresVersions,
    Write,
    change_runs,
    ids,
)
from workflow_server.stores.queries import RUNNING, SUSPECT_COLUMNS
from workflow_server.stores.replicas import (
    Beat,
    Jobs,
    Owner,
    Peers,
    Pulse,
    Replicas,
    RunCount,
    Whereabouts,
)
from workflow_server.stores.rows import SERVER_COLUMNS, row_to_suspect
from workflow_server.stores.sql import Rows

SECRET_BYTES = 32
BEAT_PART = 0.6  # of the time after which a server is stale, in which a beat is answered or fails
LATE_BEATS = 1.5  # heartbeats ago that a server has beaten at least if it is taken to be cut off
TRUSTED_BEATS = 5  # on one connection, before what it sees of others is taken for a hint
FRESH_BEATS = 1.5  # heartbeats ago that a server has beaten at most if it may remove others
CLOCK_JUMP = 5_000_000  # microseconds that the database's clock was set back by, at least

PRESENT = "(phase = 'working' OR attempted)"
# The owners one after the other, each found by the index alone.
LIST_DEAD = (
    "WITH RECURSIVE owners AS ("
    f"(SELECT owner FROM runs WHERE {RUNNING} AND owner IS NOT NULL ORDER BY owner LIMIT 1)"
    " UNION ALL SELECT"
    f" (SELECT owner FROM runs WHERE {RUNNING} AND owner > owners.owner ORDER BY owner LIMIT 1)"
    " FROM owners WHERE owners.owner IS NOT NULL)"
    " SELECT owner FROM owners WHERE owner IS NOT NULL EXCEPT SELECT id FROM incarnations"
    " ORDER BY owner"
)
LIST_PRESENT = (
    "SELECT {} FROM runs WHERE {} AND owner = $1 AND {} ORDER BY accepted, run_id".format(
        ", ".join(SUSPECT_COLUMNS).replace("was_present", "true AS was_present"), RUNNING, PRESENT
    )
)
FIND_OWNER = (
    "SELECT incarnations.id, incarnations.address FROM runs"
    " JOIN incarnations ON incarnations.id = runs.owner"
    f" WHERE runs.run_id = $1 AND {RUNNING}"
)
FIND_RUNS = (
    f"SELECT runs.run_id, NOT ({RUNNING}), runs.epoch, incarnations.id, incarnations.address"
    " FROM runs LEFT JOIN incarnations ON incarnations.id = runs.owner"
    " WHERE runs.run_id = ANY($1::text[])"
)
COUNT_RUNS = (
    "SELECT incarnations.id, phase, count(*) FROM runs"
    " LEFT JOIN incarnations ON incarnations.id = runs.owner"
    f" WHERE {RUNNING} GROUP BY incarnations.id, phase"
)
LIST_MEMBERS = (
    f"SELECT {', '.join(f'incarnations.{name}' for name in SERVER_COLUMNS)}, incarnations.id,"
    " extract(epoch FROM now() - last_heartbeat)::double precision"
    " FROM incarnations LEFT JOIN procrastinate_workers"
    " ON procrastinate_workers.id = incarnations.worker_id ORDER BY incarnations.id"
)
# Which it has at work, or has claimed.
LIST_OURS = (
    f"SELECT run_id FROM runs WHERE {RUNNING} AND owner = $1"
    " AND (attempted OR phase IN ('queued', 'working')) ORDER BY accepted, run_id"
)
COUNT_UNCLAIMED = (
    "WITH fence AS (SELECT $3::text AS code) SELECT count(*) FROM (SELECT FROM runs"
    f" WHERE {UNCLAIMED} AND workflow_name = ANY($1::text[]) AND {FITS}"
    " AND coalesce(runs.code, '') <> ALL($4::text[])"
    " AND (is_granted OR workflow_name <> ALL($5::text[])) LIMIT $2) AS unclaimed"
)


WRITE_VERDICT = (
    f"WITH {FENCE}, written AS (UPDATE runs SET"
    " phase = CASE phase WHEN 'working' THEN 'queued' ELSE phase END,"
    " slot = slot AND phase <> 'working', attempted = false,"
    " owner = CASE WHEN runs.run_id = ANY($6::text[]) THEN $1 END,"
    " epoch = epoch + (runs.run_id = ANY($6::text[]))::integer,"
    " resumes = given.resumes, strikes = given.strikes"
    " FROM unnest($3::text[], $4::integer[], $5::integer[]) AS given (run_id, resumes, strikes)"
    f" WHERE runs.run_id = given.run_id AND {RUNNING} AND owner = $2 AND {FENCED}"
    " RETURNING runs.run_id)"
    f" SELECT {FENCED}, written.run_id FROM (SELECT) AS once LEFT JOIN written ON true"
)
DISOWN = change_runs(
    f"SELECT run_id FROM runs WHERE {RUNNING} AND owner = $2 AND ($4 OR NOT {PRESENT})"
    " ORDER BY accepted, run_id LIMIT $3 FOR UPDATE SKIP LOCKED",
    "owner = NULL, attempted = false",
)
CLAIM_NEXT = change_runs(
    f"SELECT run_id FROM runs WHERE {UNCLAIMED} AND workflow_name = ANY($2::text[]) AND {FITS}"
    " AND coalesce(code, '') <> ALL($4::text[])"
    " AND (is_granted OR workflow_name <> ALL($5::text[]))"
    " ORDER BY accepted, run_id LIMIT $3 FOR UPDATE SKIP LOCKED",
    CLAIMED,
)
# Hinted servers whose lock is free. Halves of a lock are shown without their signs.
CUT = (
    "is_hinted AND id <> ALL(ARRAY(SELECT objid::bigint FROM pg_locks WHERE granted"
    " AND locktype = 'advisory' AND classid::bigint = {key} AND database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database())))"
)
# The clock goes on by what has passed in the database since the last beat of any server, and stands
# still where the database's own was set back. Beats that overtake one another are of one moment.
BEAT = (
    "WITH alive AS MATERIALIZED (SELECT {schema}.procrastinate_update_heartbeat_v1($2)"
    " FROM {schema}.incarnations WHERE id = $1),"
    " now AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS micros),"
    " line AS (INSERT INTO {schema}.clock AS clock (id, time, wall, uptime, began)"
    " SELECT 1, micros, micros, 0, micros FROM now WHERE EXISTS (SELECT FROM alive)"
    " ON CONFLICT (id) DO UPDATE SET"
    " time = clock.time + greatest(excluded.wall - clock.wall, 0),"
    " uptime = clock.uptime + least(greatest(excluded.wall - clock.wall, 0), $3::bigint),"
    f" wall = CASE WHEN excluded.wall < clock.wall - {CLOCK_JUMP} THEN excluded.wall"
    " ELSE greatest(excluded.wall, clock.wall) END"
    " RETURNING clock.time, clock.uptime)"
    " SELECT line.time, line.uptime,"
    " ARRAY(SELECT id FROM {schema}.incarnations WHERE worker_id IS NOT NULL ORDER BY id),"
    " ARRAY(SELECT state FROM {schema}.incarnations WHERE worker_id IS NOT NULL ORDER BY id),"
    " EXISTS (SELECT FROM {schema}.incarnations JOIN {schema}.procrastinate_workers AS workers"
    " ON workers.id = worker_id WHERE last_heartbeat < now() - make_interval(secs => $4)),"
    " EXISTS (SELECT FROM {schema}.incarnations WHERE {cut}) FROM line"
)
# Procrastinate has a function for it, which would remove its own workers, too: they beat every ten
# seconds. What a server is told that has not beaten just before may be out of date.
PRUNE = (
    "DELETE FROM {schema}.procrastinate_workers"
    " WHERE id IN (SELECT worker_id FROM {schema}.incarnations)"
    " AND ($4 AND last_heartbeat < now() - make_interval(secs => $2)"
    " OR $5 AND last_heartbeat < now() - make_interval(secs => $6)"
    " AND id IN (SELECT worker_id FROM {schema}.incarnations WHERE {cut}))"
    " AND EXISTS (SELECT FROM {schema}.procrastinate_workers AS own WHERE own.id = $1"
    " AND own.last_heartbeat > now() - make_interval(secs => $3))"
)


class PostgresPeers(Peers):
    """The other servers of a schema.

    `write` carries out a fenced statement and returns its rows without the fence's answer, and so
    does `write_once`, which does not repeat what may have been done; `read` returns rows, and
    `transact` those of what writes beside the batches, in a transaction.
    `incarnation` and `worker` are those of this server, and `host` is where the database sees it;
    all are set when it joins.
    """

    def __init__(
        self,
        replicas: Replicas,
        connections: Connections,
        *,
        read: Write,
        write: Write,
        write_once: Write,
        transact: Callable[[SlotWrite], Awaitable[Rows]],
    ) -> None:
        self.replicas = replicas
        self.worker = 0
        self._incarnation = 0
        self._host: str | None = None
        self._connections = connections
        self._schema = connections.url.schema
        self._read = read
        self._write = write
        self._write_once = write_once
        self._versions = PostgresVersions(read=read, write=write, write_once=write_once)
        self._slots = PostgresSlots(self._schema, transact=transact)
        self.workflows: Sequence[str] | None = None

    @property
    def versions(self) -> PostgresVersions:
        return self._versions

    @property
    def slots(self) -> PostgresSlots:
        return self._slots

    @property
    def incarnation(self) -> int:
        return self._incarnation

    @property
    def host(self) -> str | None:
        return self._host

    def joined(self, incarnation: int, worker: int, host: str | None) -> None:
        """Note which incarnation this is; 0 where the store is closed."""
        self._incarnation, self.worker, self._host = incarnation, worker, host
        self._versions.incarnation = self._slots.incarnation = incarnation

    def introduce(self, workflows: Collection[str], *, code: str) -> None:
        self.workflows, self.versions.code = tuple(sorted(workflows)), code

    def open_pulse(self) -> Pulse:
        return PostgresPulse(
            self._connections, self.replicas, incarnation=self._incarnation, worker=self.worker
        )

    def open_jobs(self) -> Jobs:
        return PostgresJobs(self._connections, worker=self.worker)

    async def find_owner(self, run_id: str) -> Owner | None:
        """Return who has a run; see `Store.find_owner`."""
        rows = await self._read(FIND_OWNER, run_id)
        return Owner(*rows[0]) if rows else None

    async def list_members(self) -> Sequence[ServerRecord]:
        """Return the servers that are alive; see `Store.list_servers`."""
        return [row_to_member(row) for row in await self._read(LIST_MEMBERS)]

    async def list_dead(self) -> Sequence[int]:
        return [owner for (owner,) in await self._read(LIST_DEAD)]

    async def list_present(self, owner: int) -> Sequence[Suspect]:
        return [row_to_suspect(row) for row in await self._read(LIST_PRESENT, owner)]

    async def write_verdict(
        self, owner: int, suspects: Sequence[Suspect], *, kept: Collection[str]
    ) -> bool:
        arrays: list[list[Any]] = [
            [suspect.run_id for suspect in suspects],
            [suspect.resumes for suspect in suspects],
            [suspect.strikes for suspect in suspects],
        ]
        return bool(ids(await self._write_once(WRITE_VERDICT, owner, *arrays, list(kept))))

    async def disown(self, owner: int, *, limit: int, with_present: bool) -> Sequence[str]:
        return ids(await self._write(DISOWN, owner, limit, with_present))

    async def release(self, run_ids: Sequence[str]) -> None:
        await self._write(RELEASE, list(run_ids))

    async def claim_next(
        self,
        workflows: Collection[str],
        *,
        limit: int,
        spared: Collection[str] = (),
        full: Collection[str] = (),
    ) -> Sequence[str]:
        values = sorted(workflows), limit, list(spared), list(full)
        return ids(await self._write_once(CLAIM_NEXT, *values))

    async def count_unclaimed(
        self,
        workflows: Collection[str],
        *,
        limit: int,
        spared: Collection[str] = (),
        full: Collection[str] = (),
    ) -> int:
        values = sorted(workflows), limit, self.versions.code, list(spared), list(full)
        rows = await self._read(COUNT_UNCLAIMED, *values)
        return int(rows[0][0])

    async def list_ours(self) -> Sequence[str]:
        return [run_id for (run_id,) in await self._read(LIST_OURS, self._incarnation)]

    async def find_runs(self, run_ids: Collection[str]) -> Sequence[Whereabouts]:
        return [row_to_whereabouts(row) for row in await self._read(FIND_RUNS, list(run_ids))]

    async def count_runs(self) -> Sequence[RunCount]:
        rows = await self._read(COUNT_RUNS)
        return [RunCount(owner, Phase(phase), runs) for owner, phase, runs in rows]

    async def get_secret(self) -> str:
        await self._write(MAKE_SECRET, secrets.token_urlsafe(SECRET_BYTES))
        ((secret,),) = await self._read(GET_SECRET)
        return str(secret)


class PostgresPulse(Pulse):
    """Heartbeats through a connection that is made anew where it is lost."""

    def __init__(
        self, connections: Connections, replicas: Replicas, *, incarnation: int, worker: int
    ) -> None:
        self._connections = connections
        self._replicas = replicas
        self._schema = connections.url.schema
        self._incarnation = incarnation
        self._worker = worker
        self._connection: SocketConnection | None = None
        self._cut = CUT.format(key=hint_key(self._schema) & 0xFFFFFFFF)
        self._is_anyone_stale = self._is_anyone_cut = False
        self._beats = 0  # on this connection

    async def beat(self) -> Beat:
        stale = self._replicas.stale_after
        sql = BEAT.format(schema=self._schema, cut=self._cut)
        longest = int(stale * 1_000_000)
        row = await self._ask(
            lambda connection: connection.fetchrow(
                sql, self._incarnation, self._worker, longest, stale
            )
        )
        if row is None:
            raise StoreFenced(f"This server is dead to the others in the schema '{self._schema}'.")
        time, uptime, members, states, self._is_anyone_stale, is_anyone_cut = row
        self._beats += 1
        self._is_anyone_cut = is_anyone_cut and self._beats > TRUSTED_BEATS
        return Beat(tuple(members), tuple(states), time, uptime, self._is_anyone_cut)

    async def prune(self, *, takes_stale: bool = True, takes_hints: bool = False) -> None:
        takes_stale = takes_stale and self._is_anyone_stale
        takes_hints = takes_hints and self._is_anyone_cut
        if not (takes_stale or takes_hints):
            return
        # Where a batch of a dead one is under way, it is tried again after the next beat.
        with suppress(asyncpg.LockNotAvailableError):
            await self._ask(lambda connection: self._prune(connection, takes_stale, takes_hints))

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _prune(
        self, connection: SocketConnection, takes_stale: bool, takes_hints: bool
    ) -> None:
        heartbeat = self._replicas.heartbeat
        async with connection.transaction():
            # Its own beats do not wait for it.
            await connection.execute(f"SET LOCAL lock_timeout = {max(int(heartbeat * 500), 1)}")
            await connection.execute(
                PRUNE.format(schema=self._schema, cut=self._cut),
                self._worker,
                self._replicas.stale_after,
                FRESH_BEATS * heartbeat,
                takes_stale,
                takes_hints,
                LATE_BEATS * heartbeat,
            )

    async def _ask(self, work: Callable[[SocketConnection], Awaitable[Any]]) -> Any:
        """Return what work on the connection returns, within a part of the time to be stale."""
        try:
            async with asyncio.timeout(self._replicas.stale_after * BEAT_PART):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connections.connect()
                    self._beats = 0
                return await self._try(work, self._connection)
        except asyncpg.LockNotAvailableError:
            raise
        except ERRORS as error:
            await self.close()
            raise unavailable(error) from error
        except BaseException:
            await self.close()
            raise

    async def _try(
        self, work: Callable[[SocketConnection], Awaitable[Any]], connection: SocketConnection
    ) -> Any:
        """Return what work on a connection returns, again where its transaction is aborted."""

        async def work_once() -> Any:
            try:
                async with self._connections.keep_session(connection):
                    return await work(connection)
            except ABORTED as error:
                raise unavailable(error) from error

        return await retrying(work_once)
