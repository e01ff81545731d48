ALTER TABLE runs
    ADD COLUMN phase text NOT NULL DEFAULT 'ended',
    ADD COLUMN accepted bigint NOT NULL DEFAULT 0,
    ADD COLUMN slot boolean NOT NULL DEFAULT false,
    ADD COLUMN due_at bigint,
    ADD COLUMN held_because text;

CREATE TABLE inbox (
    run_id   text NOT NULL,
    number   bigint NOT NULL,
    delivery bytea NOT NULL,
    PRIMARY KEY (run_id, number)
);

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

CREATE INDEX unfinished ON runs (phase, accepted, run_id) WHERE status = 'running';
-- A run that never queues or waits has no part in this one.
CREATE INDEX unfinished_by_workflow ON runs (phase, workflow_name, accepted, run_id, slot)
    WHERE status = 'running' AND phase <> 'working';
CREATE INDEX due ON runs (due_at, run_id)
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
CREATE INDEX waiting ON runs (tenant, status, phase, handler_created_at, handler_id)
    WHERE is_current AND status = 'running' AND questions <> '[]';

-- What the limits of a workflow were is not known: a run at work is taken to hold a slot, a waiting
-- one to hold none.
UPDATE runs SET slot = true WHERE status = 'running' AND phase = 'working';

-- A timeout that would end after the year 9999 is none.
UPDATE runs SET due_at = LEAST(
    wake_at,
    CASE
        WHEN timeout_left * 1000000 < 253402300800000000 - idle_since
        THEN idle_since + floor(GREATEST(timeout_left, 0) * 1000000)::bigint
    END
)
WHERE status = 'running' AND phase = 'waiting';
