-- A start ends the runs that wait and cannot go on, and looks at no others.
CREATE INDEX not_resumable ON runs (status, phase, accepted, run_id)
    WHERE status = 'running' AND phase = 'waiting' AND unresumable IS NOT NULL;
