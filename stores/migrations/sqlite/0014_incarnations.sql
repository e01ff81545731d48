-- One row: the incarnation of a server that has the file. Its id is never used again.
CREATE TABLE incarnations (id INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;

-- How often a run was claimed by another incarnation, whether a try to restore it has left nothing
-- yet, and how often it alone did that.
ALTER TABLE runs ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN attempted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN strikes INTEGER NOT NULL DEFAULT 0;
-- The incarnation that has the run in memory; a run that has ended, or waits elsewhere, has none.
ALTER TABLE runs ADD COLUMN owner INTEGER;
