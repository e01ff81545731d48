-- The secret by which servers that share the store know one another; a single server writes none.
CREATE TABLE shared_secret (
    id    integer PRIMARY KEY CHECK (id = 1),
    value text NOT NULL
);
