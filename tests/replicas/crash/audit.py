"""What the database itself notes: who wrote when, who was alive then, and whose runs were."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from tests.support.backends import opened_store
from tests.support.postgres import connect, schema_of

WRITTEN = ("runs", "events", "ticks", "states", "snapshots", "inbox")
# The time is that of the trigger. A server is removed when its batches are over, and later ones
# find it gone: so what it writes is noted before its removal, or it is a zombie.
TABLE = """
CREATE TABLE {schema}.audit (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at double precision NOT NULL DEFAULT extract(epoch FROM clock_timestamp()),
    what text NOT NULL,
    server text NOT NULL DEFAULT current_setting('application_name'),
    incarnation bigint,
    run_id text
);
CREATE FUNCTION {schema}.note_member() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO {schema}.audit (what, incarnation) VALUES ('joined', NEW.id);
    ELSE
        INSERT INTO {schema}.audit (what, incarnation) VALUES ('died', OLD.id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_member AFTER INSERT OR DELETE ON {schema}.incarnations
    FOR EACH ROW EXECUTE FUNCTION {schema}.note_member();
CREATE FUNCTION {schema}.note_owner() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO {schema}.audit (what, incarnation, run_id)
        VALUES ('claimed', NEW.owner, NEW.run_id);
    RETURN NULL;
END $$;
CREATE TRIGGER note_owner AFTER UPDATE ON {schema}.runs FOR EACH ROW
    WHEN (NEW.owner IS NOT NULL AND NEW.attempted AND NEW.epoch > OLD.epoch)
    EXECUTE FUNCTION {schema}.note_owner();
CREATE FUNCTION {schema}.note_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM changed) THEN
        INSERT INTO {schema}.audit (what) VALUES (TG_TABLE_NAME);
    END IF;
    RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE TRIGGER note_{change} AFTER {change} ON {schema}.{table}
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.note_write();
"""
AT_WORK = (
    "SELECT run_id FROM {schema}.runs WHERE owner = $1 AND status = 'running'"
    " AND phase IN ('queued', 'working')"
)
BUSIEST = (
    "SELECT joined.server FROM {schema}.runs JOIN {schema}.audit AS joined"
    " ON joined.what = 'joined' AND joined.incarnation = runs.owner"
    " WHERE status = 'running' AND phase IN ('queued', 'working')"
    " GROUP BY joined.server HAVING count(*) >= $1 ORDER BY count(*) DESC LIMIT 1"
)
UNENDED = "SELECT handler_id, phase, owner FROM {schema}.runs WHERE status = 'running'"


@dataclass(frozen=True)
class Loss:
    """A server that was lost at a time, by the database's clock, with runs at work."""

    move: str
    at: float
    run_ids: Collection[str]


class Audit:
    """The notes of a schema, in which servers go by the `application_name` of their connections."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._schema = schema_of(store)
        self.losses: list[Loss] = []

    async def install(self) -> None:
        """Make the schema, and let the database take notes from now on."""
        async with opened_store(self._store):
            pass
        async with connect() as database, database.transaction():
            await database.execute(TABLE.format(schema=self._schema))
            for table in WRITTEN:
                for change in ("INSERT", "UPDATE"):
                    trigger = TRIGGER.format(schema=self._schema, table=table, change=change)
                    await database.execute(trigger)

    async def note_loss(self, move: str, server: str) -> None:
        """Note what a server has at work that was just lost."""
        async with connect() as database:
            incarnation = await database.fetchval(
                f"SELECT max(incarnation) FROM {self._schema}.audit"
                " WHERE what = 'joined' AND server = $1",
                server,
            )
            at = await database.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            rows = await database.fetch(AT_WORK.format(schema=self._schema), incarnation)
        self.losses.append(Loss(move, at, {row["run_id"] for row in rows}))

    async def find_busiest(self, least: int) -> str | None:
        """Return the server that has most runs at work, where it has so many at least."""
        async with connect() as database:
            found: str | None = await database.fetchval(BUSIEST.format(schema=self._schema), least)
        return found

    async def list_zombies(self) -> list[str]:
        """Return a sentence for each write of a server that was dead to the others by then."""
        async with connect() as database:
            notes = await database.fetch(
                f"SELECT number, at, what, server, incarnation FROM {self._schema}.audit"
                " WHERE what <> 'claimed' ORDER BY at, number"
            )
        incarnations: dict[str, int] = {}
        dead: dict[int, float] = {}
        zombies = []
        for note in notes:
            name = note["server"]
            match note["what"]:
                case "joined":
                    incarnations[name] = note["incarnation"]
                case "died":
                    dead[note["incarnation"]] = note["at"]
                case table:
                    died = dead.get(incarnations.get(name, 0))
                    if died is not None:
                        zombies.append(
                            f"{name} wrote into {table} {note['at'] - died:.3f} s after its"
                            f" incarnation {incarnations[name]} was removed (note"
                            f" {note['number']})"
                        )
        return zombies

    async def time_takeovers(self) -> dict[str, list[float]]:
        """Return for each move how long it took until servers went on with the runs at work."""
        times: dict[str, list[float]] = {}
        async with connect() as database:
            for loss in self.losses:
                rows = await database.fetch(
                    f"SELECT run_id, min(at) - $1 AS seconds FROM {self._schema}.audit"
                    " WHERE what = 'claimed' AND at > $1 AND run_id = ANY($2::text[])"
                    " GROUP BY run_id",
                    loss.at,
                    list(loss.run_ids),
                )
                times.setdefault(loss.move, []).extend(row["seconds"] for row in rows)
        return times

    async def count_writes(self) -> Counter[str]:
        """Return how many statements wrote into each table."""
        async with connect() as database:
            rows = await database.fetch(
                f"SELECT what, count(*) FROM {self._schema}.audit GROUP BY what"
            )
        return Counter(dict(map(tuple, rows)))

    async def list_unended(self) -> list[str]:
        """Return a sentence for each run that has not ended."""
        async with connect() as database:
            rows = await database.fetch(UNENDED.format(schema=self._schema))
        return [
            f"{row['handler_id']} is stuck: {row['phase']} at {row['owner'] or 'no server'}"
            for row in rows
        ]
