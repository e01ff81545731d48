ALTER TABLE events ADD COLUMN emitted_at bigint;

DROP INDEX runs_of_handler;
CREATE INDEX runs_of_handler ON runs (tenant, handler_id, started_at, run_id);
