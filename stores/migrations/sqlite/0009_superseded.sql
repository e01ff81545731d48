-- Nobody goes on from the state of a run that another run of its handler follows.
DELETE FROM states WHERE run_id IN (SELECT run_id FROM runs WHERE NOT is_current);

CREATE INDEX superseded ON runs (completed_at) WHERE NOT is_current;
