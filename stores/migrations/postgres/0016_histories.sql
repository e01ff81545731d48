-- What ended a failed run, beside what the exception said: its class, its step, its attempts.
ALTER TABLE runs ADD COLUMN failure text;
-- Whether the ticks of a run are kept after they were carried out.
ALTER TABLE runs ADD COLUMN keeps_history boolean NOT NULL DEFAULT false;

-- The ticks of runs, in packs, until the run is purged.
CREATE TABLE histories (
    run_id      text NOT NULL,
    first       bigint NOT NULL,
    last        bigint NOT NULL,
    bytes_until bigint NOT NULL,
    ticks       bytea NOT NULL,
    PRIMARY KEY (run_id, first)
);
