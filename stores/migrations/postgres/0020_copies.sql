-- One row while another store is copied into this one: what that is called.
CREATE TABLE copies (
    id integer PRIMARY KEY CHECK (id = 1),
    source text NOT NULL
);
