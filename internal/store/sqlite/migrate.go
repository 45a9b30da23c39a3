package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"galley"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// rewrites are what migrations do beside their script, after it and in its
// transaction.
var rewrites = map[string]func(context.Context, *sql.Tx) error{
	"migrations/0003_audit_chain.sql": func(ctx context.Context, tx *sql.Tx) error {
		return chainAudit(ctx, tx, time.Now().UnixNano())
	},
}

// migrate brings the schema from the version it has to the newest, each step
// in a transaction. The version is the number of steps done.
func migrate(ctx context.Context, db *sql.DB, path string) error {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(names)
	return migrateTo(ctx, db, path, names)
}

func migrateTo(ctx context.Context, db *sql.DB, path string, names []string) error {
	const table = `CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT`
	if _, err := db.ExecContext(ctx, table); err != nil {
		return err
	}
	var have int
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM schema_version`).Scan(&have); err != nil {
		return err
	}
	if have > len(names) {
		return galley.Errorf(galley.FailedPrecondition, path, "was written by a newer galley: its schema has version %d, this one knows %d", have, len(names)).
			WithRemedy("use the newer galley, or set GALLEY_HOME to another folder")
	}
	for i := have; i < len(names); i++ {
		script, err := migrationFiles.ReadFile(names[i])
		if err != nil {
			return err
		}
		err = inTx(ctx, db, nil, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, string(script)); err != nil {
				return err
			}
			if rewrite := rewrites[names[i]]; rewrite != nil {
				if err := rewrite(ctx, tx); err != nil {
					return err
				}
			}
			_, err := tx.ExecContext(ctx, `INSERT INTO schema_version VALUES (?, ?)`, i+1, names[i])
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
	}
	return nil
}
