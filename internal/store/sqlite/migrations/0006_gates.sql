-- The gates that replace galley's own, by alias.
CREATE TABLE gates (
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    body  BLOB NOT NULL,
    PRIMARY KEY (model, alias)
) STRICT, WITHOUT ROWID;
