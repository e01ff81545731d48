-- What is known of the server that has the file: where it listens, its release, what it serves (a
-- JSON array of names), and whether it takes new runs.
ALTER TABLE incarnations ADD COLUMN address TEXT;
ALTER TABLE incarnations ADD COLUMN version TEXT;
ALTER TABLE incarnations ADD COLUMN workflows TEXT;
ALTER TABLE incarnations ADD COLUMN state TEXT;
