-- The store's clock, one row: times are microseconds since the epoch, `uptime` is microseconds.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    time INTEGER NOT NULL,
    wall INTEGER NOT NULL,
    uptime INTEGER NOT NULL,
    began INTEGER NOT NULL
);
-- The uptime of the store when a run began to wait.
ALTER TABLE runs ADD COLUMN idle_uptime INTEGER;
