package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"galley"
	"galley/internal/auth"
)

// The kinds of names that tenants own. A job is a change of the model that it
// trains.
const (
	ownedModel   = "model"
	ownedDataset = "dataset"
)

// own holds a change of an aggregate to the tenant of the caller in ctx: the
// first to write under a name owns it, and from then on no other tenant
// changes it. Callers without a tenant, and galley itself, may change all
// names; what they write first is the house's, and no tenant's.
func own(ctx context.Context, tx *sql.Tx, aggregate, subject string, generation int64) error {
	caller, _ := auth.CallerOf(ctx)
	switch {
	case aggregate == refusal:
		return nil
	case caller.Tenant == "" && generation > 1 && strings.HasPrefix(aggregate, "job/"):
		return nil // the name has had its owner since the job's first generation
	}
	kind, name, err := owned(ctx, tx, aggregate, subject)
	if err != nil {
		return err
	}
	if kind == "" {
		if caller.Tenant != "" {
			return auth.Foreign(subject, caller)
		}
		return nil
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO owners (kind, name, tenant) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, kind, name, caller.Tenant)
	if err != nil || caller.Tenant == "" {
		return err
	}
	var owner string
	if err := tx.QueryRowContext(ctx, `SELECT tenant FROM owners WHERE kind = ? AND name = ?`, kind, name).Scan(&owner); err != nil {
		return err
	}
	if owner != caller.Tenant {
		return auth.Foreign(name, caller)
	}
	return nil
}

// owned finds the name that an aggregate belongs to; no kind is a thing that
// has no owner.
func owned(ctx context.Context, tx *sql.Tx, aggregate, subject string) (kind, name string, err error) {
	part, rest, _ := strings.Cut(aggregate, "/")
	switch part {
	case "model":
		return ownedModel, rest, nil
	case "dataset":
		return ownedDataset, rest, nil
	case "alias", "experiment":
		name, _, _ = strings.Cut(rest, "/")
		return ownedModel, name, nil
	case "report": // its subject is the version that it is about
		ref, err := galley.ParseRef(subject)
		return ownedModel, ref.Name, err
	case "job", "federation":
		err := tx.QueryRowContext(ctx, `SELECT coalesce(json_extract(CAST(body AS TEXT), '$.spec.name'), '') FROM jobs WHERE id = ?`, rest).Scan(&name)
		if errors.Is(err, sql.ErrNoRows) {
			err = noJob(rest)
		}
		return ownedModel, name, err
	default:
		return "", "", nil
	}
}
