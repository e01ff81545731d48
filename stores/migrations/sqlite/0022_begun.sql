-- Whether a run ever went to work: one that was queued is not resumed, but begins.
ALTER TABLE runs ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET begun = 1 WHERE status = 'running' AND (phase IN ('working', 'waiting') OR resumes > 0);
