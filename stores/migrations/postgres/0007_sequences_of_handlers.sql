ALTER TABLE runs
    ADD COLUMN first_sequence bigint NOT NULL DEFAULT 0,
    ADD COLUMN next_sequence bigint NOT NULL DEFAULT 0,
    ADD COLUMN answered text NOT NULL DEFAULT '[]';

-- Each run of a handler has counted from 0: what comes next is above the events of all of them.
UPDATE runs SET next_sequence = (
    SELECT max(each.event_count)
    FROM runs AS each
    WHERE each.tenant = runs.tenant AND each.handler_id = runs.handler_id
)
WHERE is_current;

UPDATE runs SET first_sequence = next_sequence
WHERE status = 'running' AND NOT EXISTS (SELECT 1 FROM events WHERE events.run_id = runs.run_id);
