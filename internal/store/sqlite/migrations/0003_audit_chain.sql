-- Each entry of the audit log says where the request came from and on whose
-- token, and has a digest over itself and the entry before it. The entries of
-- before are chained by chainAudit.
ALTER TABLE audit ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN token   TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN digest  TEXT NOT NULL DEFAULT '';
CREATE INDEX audit_actor ON audit (actor, number);
CREATE INDEX audit_subject ON audit (subject, number);

-- What the log has come to; one row.
CREATE TABLE audit_head (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    entries INTEGER NOT NULL,
    digest  TEXT    NOT NULL
) STRICT;

-- Models that clients sent and that nothing else may name yet.
CREATE TABLE uploads (
    digest  TEXT    PRIMARY KEY,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What came from a version, so that deleting one does not read all.
CREATE INDEX versions_parent ON versions (json_extract(CAST(body AS TEXT), '$.lineage.parent_digest'));

-- Of the effects that are done the last are kept.
DELETE FROM effects WHERE done = 1 AND id <= (SELECT max(id) FROM effects) - 1000;
