-- Times are nanoseconds since 1970, UTC. Bodies are JSON; the columns beside
-- them repeat what is searched for.

CREATE TABLE datasets (
    name     TEXT    NOT NULL,
    version  INTEGER NOT NULL CHECK (version > 0),
    digest   TEXT    NOT NULL,
    manifest BLOB    NOT NULL,
    created  INTEGER NOT NULL,
    PRIMARY KEY (name, version),
    UNIQUE (name, digest)
) STRICT;
CREATE INDEX datasets_digest ON datasets (digest);

CREATE TABLE jobs (
    number      INTEGER PRIMARY KEY AUTOINCREMENT, -- order of submission
    id          TEXT    NOT NULL UNIQUE,
    phase       TEXT    NOT NULL,
    spec_digest TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    body        BLOB    NOT NULL
) STRICT;
CREATE INDEX jobs_phase ON jobs (phase, number);

CREATE TABLE job_lines (
    job    TEXT    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    text   TEXT    NOT NULL,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    id      INTEGER PRIMARY KEY AUTOINCREMENT, -- order of registration
    name    TEXT    NOT NULL,
    number  INTEGER NOT NULL CHECK (number > 0),
    digest  TEXT    NOT NULL,
    task    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    UNIQUE (name, number),
    UNIQUE (name, digest)
) STRICT;
CREATE INDEX versions_digest ON versions (digest);

CREATE TABLE aliases (
    model      TEXT    NOT NULL,
    alias      TEXT    NOT NULL,
    target     INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    previous   TEXT    NOT NULL, -- JSON list of numbers
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, target) REFERENCES versions (name, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE alias_changes (
    model      TEXT    NOT NULL,
    alias      TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    PRIMARY KEY (model, alias, generation),
    FOREIGN KEY (model, alias) REFERENCES aliases (model, alias)
) STRICT;

CREATE TABLE reports (
    name    TEXT    NOT NULL,
    number  INTEGER NOT NULL,
    digest  TEXT    NOT NULL,
    created INTEGER NOT NULL,
    summary BLOB    NOT NULL,
    body    BLOB    NOT NULL,
    PRIMARY KEY (name, number, digest),
    FOREIGN KEY (name, number) REFERENCES versions (name, number)
) STRICT;
CREATE INDEX reports_digest ON reports (digest);

CREATE TABLE effects (
    id        INTEGER PRIMARY KEY AUTOINCREMENT, -- order of commit
    aggregate TEXT    NOT NULL,
    sequence  INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    payload   BLOB,
    done      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (aggregate, sequence)
) STRICT;
CREATE INDEX effects_pending ON effects (id) WHERE done = 0;

CREATE TABLE audit (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL
) STRICT;
