-- One row while another store is copied into this one: what that is called.
CREATE TABLE copies (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    source TEXT NOT NULL
) STRICT;
