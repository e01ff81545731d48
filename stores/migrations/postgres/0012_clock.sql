-- The store's clock, one row: times are microseconds since the epoch, `uptime` is microseconds.
CREATE TABLE clock (
    id smallint PRIMARY KEY CHECK (id = 1),
    time bigint NOT NULL,
    wall bigint NOT NULL,
    uptime bigint NOT NULL,
    began bigint NOT NULL
);
-- The uptime of the store when a run began to wait.
ALTER TABLE runs ADD COLUMN idle_uptime bigint;
