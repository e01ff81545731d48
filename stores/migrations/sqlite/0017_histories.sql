-- What ended a failed run, beside what the exception said: its class, its step, its attempts.
ALTER TABLE runs ADD COLUMN failure TEXT;
-- Whether the ticks of a run are kept after they were carried out.
ALTER TABLE runs ADD COLUMN keeps_history INTEGER NOT NULL DEFAULT 0;

-- The ticks of runs, in packs, until the run is purged; most runs have one pack, and a small one.
CREATE TABLE histories (
    run_id      TEXT NOT NULL,
    first       INTEGER NOT NULL,
    last        INTEGER NOT NULL,
    bytes_until INTEGER NOT NULL,
    ticks       BLOB NOT NULL,
    PRIMARY KEY (run_id, first)
) STRICT, WITHOUT ROWID;
