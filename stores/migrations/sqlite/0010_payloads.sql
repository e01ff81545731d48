-- The large values to which ticks and snapshots refer.
CREATE TABLE payloads (
    run_id  TEXT NOT NULL,
    number  INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;
