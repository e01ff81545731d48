-- What was changed in a state since it was written whole: from this number on.
ALTER TABLE states ADD COLUMN first_change bigint NOT NULL DEFAULT 0;

CREATE TABLE state_changes (
    run_id text NOT NULL,
    number bigint NOT NULL,
    change bytea NOT NULL,
    PRIMARY KEY (run_id, number)
);
