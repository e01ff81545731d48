-- What was changed in a state since it was written whole: from this number on.
ALTER TABLE states ADD COLUMN first_change INTEGER NOT NULL DEFAULT 0;

-- With a rowid: rows may be long.
CREATE TABLE state_changes (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    change BLOB NOT NULL,
    PRIMARY KEY (run_id, number)
) STRICT;
