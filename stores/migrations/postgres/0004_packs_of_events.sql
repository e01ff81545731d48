ALTER TABLE events RENAME TO single_events;
ALTER INDEX events_pkey RENAME TO single_events_pkey;

CREATE TABLE events (
    run_id     text NOT NULL,
    first      bigint NOT NULL,
    last       bigint NOT NULL,
    internal   text NOT NULL,
    emitted_at text,
    envelopes  bytea NOT NULL,
    PRIMARY KEY (run_id, first)
);

-- The usual compression costs ten times as much; not every server has this one.
DO $$
BEGIN
    ALTER TABLE events ALTER COLUMN envelopes SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR syntax_error OR invalid_parameter_value THEN
    NULL;
END
$$;

INSERT INTO events
SELECT
    run_id,
    sequence,
    sequence,
    CASE WHEN internal THEN '[0]' ELSE '[]' END,
    '[' || emitted_at || ']',
    envelope
FROM single_events;

DROP TABLE single_events;
