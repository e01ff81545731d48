CREATE TABLE runs (
    run_id             text PRIMARY KEY,
    handler_id         text COLLATE "C" NOT NULL,
    handler_created_at bigint NOT NULL,
    is_current         boolean NOT NULL,
    workflow_name      text NOT NULL,
    status             text NOT NULL,
    started_at         bigint NOT NULL,
    updated_at         bigint NOT NULL,
    completed_at       bigint,
    start_event        bytea,
    result             bytea,
    error              text,
    event_count        bigint NOT NULL,
    questions          text NOT NULL,
    unresumable        text,
    idle_since         bigint,
    wake_at            bigint,
    timeout_left       double precision,
    resumes            integer NOT NULL,
    tenant             text NOT NULL
);

CREATE INDEX runs_of_handler ON runs (tenant, handler_id);
CREATE INDEX listing ON runs (tenant, handler_created_at, handler_id) WHERE is_current;
CREATE INDEX listing_by_status
    ON runs (tenant, status, handler_created_at, handler_id) WHERE is_current;
CREATE INDEX listing_by_workflow
    ON runs (tenant, workflow_name, status, handler_created_at, handler_id) WHERE is_current;
CREATE INDEX waiting ON runs (tenant, handler_created_at, handler_id)
    WHERE is_current AND status = 'running' AND questions <> '[]';
CREATE INDEX unfinished ON runs (run_id) WHERE status = 'running';
CREATE INDEX ended ON runs (completed_at) WHERE is_current AND completed_at IS NOT NULL;

CREATE TABLE events (
    run_id   text NOT NULL,
    sequence bigint NOT NULL,
    internal boolean NOT NULL,
    envelope bytea NOT NULL,
    PRIMARY KEY (run_id, sequence)
);

CREATE TABLE ticks (
    run_id   text NOT NULL,
    sequence bigint NOT NULL,
    tick     bytea NOT NULL,
    PRIMARY KEY (run_id, sequence)
);

CREATE TABLE states (
    run_id text PRIMARY KEY,
    state  bytea NOT NULL
);

CREATE TABLE snapshots (
    run_id        text PRIMARY KEY,
    tick_sequence bigint NOT NULL,
    snapshot      bytea NOT NULL
);
