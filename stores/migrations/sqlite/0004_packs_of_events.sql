ALTER TABLE events RENAME TO single_events;

-- With a rowid: rows are long, and come one after the other.
CREATE TABLE events (
    run_id     TEXT NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    internal   TEXT NOT NULL,
    emitted_at TEXT,
    envelopes  BLOB NOT NULL,
    PRIMARY KEY (run_id, first)
) STRICT;

INSERT INTO events
SELECT
    run_id,
    sequence,
    sequence,
    iif(internal, '[0]', '[]'),
    '[' || emitted_at || ']',
    envelope
FROM single_events
ORDER BY run_id, sequence;

DROP TABLE single_events;
