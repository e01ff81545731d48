"""Servers of different code that share a schema of Postgres: which of them may have which run."""

from collections.abc import Awaitable, Callable, Collection, Sequence

from workflow_server.schemas.journals import RUN_FORMAT
from workflow_server.stores.postgres_statements import CODE, FENCE, FENCED, LAST_HAD
from workflow_server.stores.queries import RUNNING
from workflow_server.stores.replicas import Owner, Versions
from workflow_server.stores.sql import Rows

Write = Callable[..., Awaitable[Rows]]

UNCLAIMED = f"{RUNNING} AND owner IS NULL AND phase IN ('queued', 'working')"
# Whether this server may fit a run of a workflow that it serves. An earlier release has no version.
FITS = f"format <= {RUN_FORMAT} AND coalesce({CODE}, '') <> ALL(coalesce(unfit, '{{}}'))"
CLAIMED = f"owner = $1, attempted = true, {LAST_HAD}, epoch = epoch + 1"
# Whether a server may fit a run. One that has just come, and has not said what it serves, may.
MAY_FIT = (
    "incarnations.worker_id IS NOT NULL"
    " AND (incarnations.workflows IS NULL OR runs.workflow_name = ANY(incarnations.workflows))"
    " AND runs.format <= incarnations.format"
    " AND coalesce(incarnations.code, '') <> ALL(coalesce(runs.unfit, '{}'))"
)


def change_runs(picked: str, change: str) -> str:
    """Return the fenced SQL that changes the runs which a query locks, and returns their ids."""
    return (
        f"WITH {FENCE}, picked AS MATERIALIZED ({picked}),"
        f" written AS (UPDATE runs SET {change} WHERE run_id IN (SELECT run_id FROM picked)"
        f" AND {FENCED} RETURNING run_id, accepted)"
        f" SELECT {FENCED}, written.run_id FROM (SELECT) AS once LEFT JOIN written ON true"
        " ORDER BY written.accepted, written.run_id"
    )


def ids(rows: Rows) -> list[str]:
    """Return the ids that such a statement has returned."""
    return [run_id for (run_id,) in rows if run_id is not None]


FIND_OTHER = (
    f"SELECT incarnations.id, incarnations.address FROM runs JOIN incarnations ON {MAY_FIT}"
    " WHERE runs.run_id = $1 AND incarnations.id <> $2"
    f" AND (NOT $3 OR runs.format > {RUN_FORMAT} OR $4 = ANY(runs.unfit))"
    " ORDER BY incarnations.state IS DISTINCT FROM 'serving',"
    " incarnations.code IS DISTINCT FROM runs.code, incarnations.id LIMIT 1"
)
NOTE_UNFIT = change_runs(
    f"SELECT run_id FROM runs WHERE run_id = $2 AND {RUNNING} AND owner = $1 FOR UPDATE",
    f"unfit = array_append(array_remove(unfit, coalesce({CODE}, '')), coalesce({CODE}, ''))",
)
RELEASE = change_runs(
    f"SELECT run_id FROM runs WHERE run_id = ANY($2::text[]) AND {RUNNING} AND owner = $1"
    " ORDER BY run_id FOR UPDATE",
    "owner = NULL, attempted = false",
)
LIST_NEWER = (
    f"SELECT run_id FROM runs WHERE run_id = ANY($1::text[]) AND runs.format > {RUN_FORMAT}"
)
LIST_CODES = (
    "SELECT DISTINCT code FROM incarnations WHERE worker_id IS NOT NULL AND code <> $1"
    " AND state IS DISTINCT FROM 'draining' ORDER BY code"
)
CLAIM_HELD = change_runs(
    f"SELECT run_id FROM runs WHERE {RUNNING} AND owner IS NULL AND phase = 'held'"
    f" AND phase <> 'working' AND workflow_name = ANY($2::text[]) AND {FITS}"
    " ORDER BY accepted, run_id LIMIT $3 FOR UPDATE SKIP LOCKED",
    CLAIMED,
)
LIST_STRANDED = (
    f"SELECT run_id FROM runs WHERE {UNCLAIMED}"
    f" AND NOT EXISTS (SELECT FROM incarnations WHERE {MAY_FIT})"
    " ORDER BY accepted, run_id LIMIT $1"
)


class PostgresVersions(Versions):
    """Versions of code in a schema.

    `write`, `write_once` and `read` are those of `PostgresPeers`; `incarnation` and `code` are this
    server's.
    """

    def __init__(self, *, read: Write, write: Write, write_once: Write) -> None:
        self.incarnation = 0
        self.code = ""
        self._read = read
        self._write = write
        self._write_once = write_once

    async def find_other(self, run_id: str, *, is_served: bool) -> Owner | None:
        rows = await self._read(FIND_OTHER, run_id, self.incarnation, is_served, self.code)
        return Owner(*rows[0]) if rows else None

    async def pass_on(self, run_id: str) -> Owner | None:
        await self._write(NOTE_UNFIT, run_id)
        other = await self.find_other(run_id, is_served=True)
        if other is not None:
            await self._write(RELEASE, [run_id])
        return other

    async def list_newer(self, run_ids: Collection[str]) -> Collection[str]:
        return ids(await self._read(LIST_NEWER, list(run_ids)))

    async def list_codes(self) -> Sequence[str]:
        return [code for (code,) in await self._read(LIST_CODES, self.code)]

    async def claim_held(self, workflows: Collection[str], *, limit: int) -> Sequence[str]:
        return ids(await self._write_once(CLAIM_HELD, sorted(workflows), limit))

    async def list_stranded(self, *, limit: int) -> Sequence[str]:
        return ids(await self._read(LIST_STRANDED, limit))
