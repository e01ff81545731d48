-- The large values to which ticks and snapshots refer.
CREATE TABLE payloads (
    run_id  text NOT NULL,
    number  bigint NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (run_id, number)
);
