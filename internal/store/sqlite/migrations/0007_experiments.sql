CREATE TABLE experiments (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL UNIQUE,
    model      TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    body       BLOB    NOT NULL
) STRICT;
CREATE INDEX experiments_model ON experiments (model, id);
CREATE UNIQUE INDEX experiments_running ON experiments (model) WHERE state = 'running';

-- Counts of one arm while the shares stayed the same. Sums are in millionths.
CREATE TABLE experiment_totals (
    experiment INTEGER NOT NULL REFERENCES experiments (id),
    stage      INTEGER NOT NULL,
    arm        INTEGER NOT NULL, -- 0 control, 1 treatment
    requests   INTEGER NOT NULL DEFAULT 0,
    errors     INTEGER NOT NULL DEFAULT 0,
    empty      INTEGER NOT NULL DEFAULT 0,
    outcomes   INTEGER NOT NULL DEFAULT 0,
    sum        INTEGER NOT NULL DEFAULT 0,
    keys       INTEGER NOT NULL DEFAULT 0, -- outcomes that are the first of their request key
    key_sum    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (experiment, stage, arm)
) STRICT, WITHOUT ROWID;

-- The last outcome of each prediction that has one.
CREATE TABLE outcomes (
    experiment INTEGER NOT NULL, -- 0 outside of experiments
    nonce      INTEGER NOT NULL, -- of the prediction's id, as are those below
    predicted  INTEGER NOT NULL,
    place      INTEGER NOT NULL,
    stage      INTEGER NOT NULL,
    arm        INTEGER NOT NULL,
    model      BLOB    NOT NULL,
    version    INTEGER NOT NULL,
    first      INTEGER NOT NULL, -- 1 if it is the first of its request key
    outcome    TEXT    NOT NULL,
    value      INTEGER NOT NULL, -- in millionths
    at         INTEGER NOT NULL,
    PRIMARY KEY (experiment, nonce, predicted)
) STRICT, WITHOUT ROWID;
CREATE INDEX outcomes_key ON outcomes (experiment, place);

-- The key that prediction ids are signed with.
CREATE TABLE prediction_key (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    key BLOB NOT NULL CHECK (length(key) = 32)
) STRICT;
