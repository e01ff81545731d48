-- Releases side by side: a migration only adds, so an earlier release goes on with the schema. One
-- that cannot sets `oldest` to its own version: releases that do not have it are refused then.
ALTER TABLE schema_version ADD COLUMN oldest integer NOT NULL DEFAULT 0;

-- The rows that a release writes have a type of their own. That of the table has more columns once
-- a later release has added one, and rows without it would be refused. A release that writes more
-- columns makes a type of another name.
DO $$
DECLARE
    written text;
BEGIN
    FOREACH written IN ARRAY ARRAY['runs', 'events', 'ticks', 'states', 'state_changes',
                                   'snapshots', 'inbox', 'payloads', 'histories', 'clock']
    LOOP
        EXECUTE (
            SELECT format('CREATE TYPE %I AS (%s)', written || '_row', string_agg(
                format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum))
            FROM pg_attribute
            WHERE attrelid = to_regclass(written) AND attnum > 0 AND NOT attisdropped
        );
    END LOOP;
END
$$;

-- The version of a server's code, the newest format of runs that it reads, whether a free lock says
-- that its connection was lost, and whether it is behind a pooler, where no lock holds.
ALTER TABLE incarnations
    ADD COLUMN code text,
    ADD COLUMN format smallint NOT NULL DEFAULT 1,
    ADD COLUMN is_hinted boolean NOT NULL DEFAULT false,
    ADD COLUMN is_pooled boolean NOT NULL DEFAULT false;

-- The version of the code that had the run last, the format in which it is stored, the versions
-- that do not fit it, and whether it has a slot of its workflow, counted over all servers.
ALTER TABLE runs
    ADD COLUMN code text,
    ADD COLUMN format smallint NOT NULL DEFAULT 1,
    ADD COLUMN unfit text[],
    ADD COLUMN is_granted boolean NOT NULL DEFAULT false;
CREATE INDEX granted ON runs (workflow_name) WHERE status = 'running' AND is_granted;
