-- What the history of a run keeps beside a tick: the state that it left, or what changed in it.
ALTER TABLE ticks ADD COLUMN beside BLOB NOT NULL DEFAULT x'';
