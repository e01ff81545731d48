ALTER TABLE runs ADD COLUMN trace text;
