CREATE TABLE runs (
    run_id             TEXT PRIMARY KEY,
    handler_id         TEXT NOT NULL,
    handler_created_at INTEGER NOT NULL,
    is_current         INTEGER NOT NULL,
    workflow_name      TEXT NOT NULL,
    status             TEXT NOT NULL,
    started_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    completed_at       INTEGER,
    start_event        BLOB,
    result             BLOB,
    error              TEXT,
    event_count        INTEGER NOT NULL,
    questions          TEXT NOT NULL,
    unresumable        TEXT,
    idle_since         INTEGER,
    wake_at            INTEGER,
    timeout_left       REAL,
    resumes            INTEGER NOT NULL,
    tenant             TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_of_handler ON runs (tenant, handler_id);
CREATE INDEX listing ON runs (tenant, handler_created_at, handler_id) WHERE is_current;
CREATE INDEX listing_by_status
    ON runs (tenant, status, handler_created_at, handler_id) WHERE is_current;
CREATE INDEX listing_by_workflow
    ON runs (tenant, workflow_name, status, handler_created_at, handler_id) WHERE is_current;
CREATE INDEX waiting ON runs (tenant, handler_created_at, handler_id)
    WHERE is_current AND status = 'running' AND questions <> '[]';
CREATE INDEX unfinished ON runs (run_id) WHERE status = 'running';
CREATE INDEX ended ON runs (completed_at) WHERE is_current AND completed_at IS NOT NULL;

CREATE TABLE events (
    run_id   TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    internal INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (run_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE ticks (
    run_id   TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    tick     BLOB NOT NULL,
    PRIMARY KEY (run_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE states (
    run_id TEXT PRIMARY KEY,
    state  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    run_id        TEXT PRIMARY KEY,
    tick_sequence INTEGER NOT NULL,
    snapshot      BLOB NOT NULL
) STRICT, WITHOUT ROWID;
