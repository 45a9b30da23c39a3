-- Tokens are kept as the SHA-256 of their secrets. 0 is no time.
CREATE TABLE tokens (
    id       TEXT    NOT NULL PRIMARY KEY,
    name     TEXT    NOT NULL,
    role     TEXT    NOT NULL,
    tenant   TEXT    NOT NULL,
    digest   BLOB    NOT NULL CHECK (length(digest) = 32),
    created  INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    revoked  INTEGER NOT NULL,
    replaces TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- The tenant that first wrote under a name owns it; '' is the house.
CREATE TABLE owners (
    kind   TEXT NOT NULL, -- model, dataset
    name   TEXT NOT NULL,
    tenant TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- What was there before there were tenants is the house's.
INSERT INTO owners SELECT DISTINCT 'dataset', name, '' FROM datasets;
INSERT INTO owners SELECT 'model', name, '' FROM versions
    UNION SELECT 'model', name, '' FROM deleted_versions
    UNION SELECT 'model', json_extract(CAST(body AS TEXT), '$.spec.name'), '' FROM jobs
    WHERE json_extract(CAST(body AS TEXT), '$.spec.name') IS NOT NULL;
