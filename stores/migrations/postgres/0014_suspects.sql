-- A start asks who may have ended the process before, among the runs that were not at work.
CREATE INDEX suspects ON runs (accepted, run_id)
    WHERE status = 'running' AND phase <> 'working' AND (attempted OR resumes > 0);
