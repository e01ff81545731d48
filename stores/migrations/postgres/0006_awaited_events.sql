ALTER TABLE runs ADD COLUMN awaits text;
