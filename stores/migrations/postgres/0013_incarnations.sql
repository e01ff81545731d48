-- One row a life of a server. Its id is never used again.
CREATE TABLE incarnations (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker_id bigint UNIQUE,
    address   text,
    version   text,
    workflows text[],
    state     text
);

-- How often a run was claimed by another incarnation, whether a try to restore it has left nothing
-- yet, how often it alone did that, and the incarnation that has it in memory; a run that has
-- ended, or waits elsewhere, has none.
ALTER TABLE runs
    ADD COLUMN epoch bigint NOT NULL DEFAULT 0,
    ADD COLUMN attempted boolean NOT NULL DEFAULT false,
    ADD COLUMN strikes integer NOT NULL DEFAULT 0,
    ADD COLUMN owner bigint;
