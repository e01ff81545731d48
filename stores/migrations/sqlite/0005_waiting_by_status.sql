-- With the status, without which SQLite takes the index by status, and walks over all that run.
DROP INDEX waiting;
CREATE INDEX waiting ON runs (tenant, status, handler_created_at, handler_id)
    WHERE is_current AND status = 'running' AND questions <> '[]';
