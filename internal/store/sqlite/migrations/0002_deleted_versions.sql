-- The number of a deleted version is not given again.
CREATE TABLE deleted_versions (
    name    TEXT    NOT NULL,
    number  INTEGER NOT NULL CHECK (number > 0),
    digest  TEXT    NOT NULL,
    deleted INTEGER NOT NULL,
    PRIMARY KEY (name, number)
) STRICT, WITHOUT ROWID;
