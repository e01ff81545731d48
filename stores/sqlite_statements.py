"""The statements with which the SQLite store writes."""

from workflow_server.stores.batches import TABLES_OF_CURRENT, TABLES_OF_UNFINISHED
from workflow_server.stores.packs import PACK_COLUMNS
from workflow_server.stores.purging import (
    forget_runs,
    note_current,
    note_earlier,
    note_superseded,
    removals,
)
from workflow_server.stores.queries import AT_WORK, STAYS_ENDED, SUSPECTED
from workflow_server.stores.rows import (
    CHANGE_COLUMNS,
    CLOCK_COLUMNS,
    HISTORY_COLUMNS,
    INBOX_COLUMNS,
    PAYLOAD_COLUMNS,
    SNAPSHOT_COLUMNS,
    STATE_COLUMNS,
    TICK_COLUMNS,
    WRITTEN_RUN_COLUMNS,
)

# SQLite writes the entry of an index anew where one of its columns is named, changed or not.
KEPT = frozenset({"run_id", "tenant", "handler_id", "started_at", "epoch"})
INCARNATION = "SELECT id FROM incarnations"
PUT_RUNS = (
    f"INSERT INTO runs ({', '.join(WRITTEN_RUN_COLUMNS)}) VALUES",
    "ON CONFLICT (run_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in WRITTEN_RUN_COLUMNS if name not in KEPT)
    + " WHERE runs.epoch = excluded.epoch"
    f" AND (runs.owner IS NULL OR runs.owner = ({INCARNATION})) AND {STAYS_ENDED}",
)
GIVEN_IDS = "SELECT value FROM json_each(?{})"
# Every other incarnation is dead. What was written already, here and below, is left alone: SQLite
# would write it again whole, and who was cut off and comes again would come no further.
CLAIM = (
    "UPDATE runs SET owner = ?1, epoch = epoch + (owner IS NOT ?1), attempted = 1"
    f" WHERE run_id IN ({GIVEN_IDS.format(2)}) AND status = 'running'"
    " AND (owner IS NOT ?1 OR NOT attempted)"
)
SELECT_CLAIMED = (
    f"SELECT run_id FROM runs WHERE run_id IN ({GIVEN_IDS.format(2)})"
    " AND status = 'running' AND owner = ?1"
)
REFUSED = (
    "SELECT runs.run_id FROM json_each(?1) AS given"
    " JOIN runs ON runs.run_id = given.value ->> 0"
    " WHERE runs.epoch <> given.value ->> 1"
    f" OR runs.owner <> ({INCARNATION})"
    " OR runs.status <> 'running' AND given.value ->> 2 = 'running'"
)
WRITE_SUSPECT = (
    "UPDATE runs SET phase = iif(phase = 'working', 'queued', phase),"
    " slot = slot AND phase <> 'working', owner = NULL, attempted = 0, resumes = ?1, strikes = ?2"
    " WHERE run_id = ?3 AND status = 'running' AND (phase = 'working' OR owner IS NOT NULL"
    " OR attempted OR resumes <> ?1 OR strikes <> ?2)"
)
SELECT_PRESENT = tuple(
    f"SELECT run_id FROM runs WHERE {part} AND owner = ?1" for part in (AT_WORK, SUSPECTED)
)
LET_GO = (
    "UPDATE runs SET owner = NULL, attempted = 0, resumes = 0, strikes = 0"
    f" WHERE run_id IN ({GIVEN_IDS.format(2)}) AND owner = ?1"
)
SELECT_SIZES = (
    "SELECT run_id, ifnull(length(start_event), 0) + ifnull(length(result), 0) FROM runs"
    f" WHERE run_id IN ({GIVEN_IDS.format(1)})"
)
DESCRIBE = "UPDATE incarnations SET address = ?, version = ?, workflows = ?, state = ?"
NOTE_COPY = "INSERT OR REPLACE INTO copies (id, source) VALUES (1, ?)"
END_COPY = "DELETE FROM copies"
PUT_EVENTS = f"INSERT OR REPLACE INTO events ({', '.join(PACK_COLUMNS)}) VALUES", ""
ADD_TICKS = f"INSERT OR IGNORE INTO ticks ({', '.join(TICK_COLUMNS)}) VALUES", ""
PUT_STATES = f"INSERT OR REPLACE INTO states ({', '.join(STATE_COLUMNS)}) VALUES", ""
ADD_CHANGES = f"INSERT OR IGNORE INTO state_changes ({', '.join(CHANGE_COLUMNS)}) VALUES", ""
PUT_SNAPSHOTS = f"INSERT OR REPLACE INTO snapshots ({', '.join(SNAPSHOT_COLUMNS)}) VALUES", ""
ADD_TO_INBOX = f"INSERT OR IGNORE INTO inbox ({', '.join(INBOX_COLUMNS)}) VALUES", ""
ADD_PAYLOADS = f"INSERT OR IGNORE INTO payloads ({', '.join(PAYLOAD_COLUMNS)}) VALUES", ""
PUT_HISTORIES = f"INSERT OR REPLACE INTO histories ({', '.join(HISTORY_COLUMNS)}) VALUES", ""
PUT_CLOCK = f"INSERT OR REPLACE INTO clock ({', '.join(CLOCK_COLUMNS)}) VALUES", ""
FORGET_HISTORY = "DELETE FROM histories WHERE run_id = ? AND bytes_until - length(ticks) < ?"
TRIM_TICKS = "DELETE FROM ticks WHERE run_id = ? AND sequence < ?"
FOLD_CHANGES = "DELETE FROM state_changes WHERE run_id = ? AND number < ?"
TAKE_FROM_INBOX = "DELETE FROM inbox WHERE run_id = ? AND number <= ?"
IN_LIST = "run_id IN (SELECT value FROM json_each(?))"
DROP_PAYLOADS = (
    "DELETE FROM payloads WHERE run_id = ? AND number IN (SELECT value FROM json_each(?))"
)
CLEAR = (f"DELETE FROM payloads WHERE {IN_LIST}",)
FINISH = tuple(f"DELETE FROM {table} WHERE {IN_LIST}" for table in TABLES_OF_UNFINISHED)
SUPERSEDE = tuple(f"DELETE FROM {table} WHERE {IN_LIST}" for table in TABLES_OF_CURRENT)
LISTED = "SELECT value FROM json_each(?)"
NOTE_EARLIER, NOTE_CURRENT = note_earlier(LISTED), note_current(LISTED)
NOTE_SUPERSEDED = note_superseded(LISTED)
FORGET_RUNS, REMOVE_PARTS = forget_runs(), removals("?{}".format)
