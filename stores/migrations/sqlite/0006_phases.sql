ALTER TABLE runs ADD COLUMN phase TEXT NOT NULL DEFAULT 'ended';
ALTER TABLE runs ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN slot INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN due_at INTEGER;
ALTER TABLE runs ADD COLUMN held_because TEXT;

CREATE TABLE inbox (
    run_id   TEXT NOT NULL,
    number   INTEGER NOT NULL,
    delivery BLOB NOT NULL,
    PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;

DROP INDEX unfinished;
DROP INDEX waiting;
DROP INDEX listing_by_status;
DROP INDEX listing_by_workflow;

UPDATE runs SET
    accepted = started_at,
    phase = CASE
        WHEN status <> 'running' THEN 'ended'
        WHEN idle_since IS NOT NULL THEN 'waiting'
        WHEN resumes = 0
            AND NOT EXISTS (SELECT 1 FROM ticks WHERE ticks.run_id = runs.run_id)
            AND NOT EXISTS (SELECT 1 FROM snapshots WHERE snapshots.run_id = runs.run_id)
            THEN 'queued'
        ELSE 'working'
    END;

-- Nobody resumes or retries these.
DELETE FROM ticks
WHERE run_id IN (SELECT run_id FROM runs WHERE status = 'completed' OR NOT is_current);
DELETE FROM snapshots
WHERE run_id IN (SELECT run_id FROM runs WHERE status = 'completed' OR NOT is_current);

-- With the status, without which SQLite looks at the row of each entry.
CREATE INDEX unfinished ON runs (status, phase, accepted, run_id) WHERE status = 'running';
-- A run that never queues or waits has no part in this one.
CREATE INDEX unfinished_by_workflow
    ON runs (status, phase, workflow_name, accepted, run_id, slot)
    WHERE status = 'running' AND phase <> 'working';
CREATE INDEX due ON runs (status, phase, due_at, run_id)
    WHERE status = 'running' AND phase = 'waiting' AND due_at IS NOT NULL;

-- A listing finds a run by its phase until it has ended, and by its status after that.
CREATE INDEX listing_by_phase
    ON runs (tenant, phase, handler_created_at, handler_id)
    WHERE is_current AND status = 'running';
CREATE INDEX listing_by_status
    ON runs (tenant, status, handler_created_at, handler_id)
    WHERE is_current AND status <> 'running';
CREATE INDEX listing_by_workflow_and_phase
    ON runs (tenant, workflow_name, phase, handler_created_at, handler_id)
    WHERE is_current AND status = 'running';
CREATE INDEX listing_by_workflow
    ON runs (tenant, workflow_name, status, handler_created_at, handler_id)
    WHERE is_current AND status <> 'running';
-- With the status, without which SQLite takes the index by phase, and walks over all that wait.
CREATE INDEX waiting ON runs (tenant, status, phase, handler_created_at, handler_id)
    WHERE is_current AND status = 'running' AND questions <> '[]';

-- What the limits of a workflow were is not known: a run at work is taken to hold a slot, a waiting
-- one to hold none.
UPDATE runs SET slot = 1 WHERE status = 'running' AND phase = 'working';

-- A timeout that would end after the year 9999 is none.
UPDATE runs SET due_at = (
    SELECT min(due)
    FROM (
        SELECT wake_at AS due
        UNION ALL
        SELECT idle_since + CAST(max(timeout_left, 0) * 1000000 AS INTEGER)
        WHERE timeout_left * 1000000 < 253402300800000000 - idle_since
    )
)
WHERE status = 'running' AND phase = 'waiting';
