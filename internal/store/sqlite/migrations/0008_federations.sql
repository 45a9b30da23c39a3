CREATE TABLE partners (
    name        TEXT    PRIMARY KEY,
    fingerprint TEXT    NOT NULL UNIQUE, -- SHA-256 of the certificate
    certificate BLOB    NOT NULL,
    enrolled    INTEGER NOT NULL,
    revoked     TEXT    NOT NULL -- why; empty if it may take part
) STRICT, WITHOUT ROWID;

-- Files of agreements, kept for good: updates were signed under them.
CREATE TABLE agreements (
    digest     TEXT    PRIMARY KEY,
    partner    TEXT    NOT NULL REFERENCES partners (name),
    federation TEXT    NOT NULL,
    file       BLOB    NOT NULL,
    joined     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX agreements_partner ON agreements (partner);

-- The present agreement of a partner with a federation.
CREATE TABLE memberships (
    partner    TEXT NOT NULL REFERENCES partners (name),
    federation TEXT NOT NULL,
    agreement  TEXT NOT NULL REFERENCES agreements (digest),
    body       BLOB NOT NULL,
    PRIMARY KEY (partner, federation)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships_federation ON memberships (federation);

CREATE TABLE federations (
    job        TEXT    PRIMARY KEY REFERENCES jobs (id),
    name       TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    staged     INTEGER NOT NULL, -- 1 if what it made is on its way into the registry
    generation INTEGER NOT NULL,
    holds      TEXT    NOT NULL, -- the blobs that it still needs
    body       BLOB    NOT NULL
) STRICT;
CREATE INDEX federations_name ON federations (name);

-- Attempts at rounds that have ended.
CREATE TABLE rounds (
    job     TEXT    NOT NULL REFERENCES federations (job),
    number  INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    digest  TEXT    NOT NULL, -- of the body
    body    BLOB    NOT NULL,
    PRIMARY KEY (job, number, attempt)
) STRICT;
