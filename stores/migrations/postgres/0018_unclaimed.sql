-- Runs that go on and that no server has, for many servers that share the store: the next one that
-- has room claims the first of them. A single server has all of its runs, so it writes none here.
CREATE INDEX unclaimed ON runs (accepted, run_id)
    WHERE status = 'running' AND owner IS NULL AND phase IN ('queued', 'working');
