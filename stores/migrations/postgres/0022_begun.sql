-- Whether a run ever went to work: one that was queued is not resumed, but begins.
ALTER TABLE runs ADD COLUMN begun boolean NOT NULL DEFAULT false;
UPDATE runs SET begun = true
    WHERE status = 'running' AND (phase IN ('working', 'waiting') OR resumes > 0);
