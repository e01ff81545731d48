-- Runs that were removed, of which not all is gone yet that belonged to them.
CREATE TABLE purged_runs (
    run_id text PRIMARY KEY
);
