package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"galley"
	"galley/internal/store"
	"galley/registry"
	"galley/trainer"
)

// DeleteVersion deletes a version with its reports, and returns it. It refuses
// with FailedPrecondition what something needs: an alias that points at the
// version, a rollback of prod that would return to it, a version that was
// trained or distilled from it, a job that is to be, an experiment. Its number is not given
// again.
func (s *Store) DeleteVersion(ctx context.Context, name string, number int, by registry.Stamp) (registry.Version, error) {
	ref := galley.Ref{Name: name, Version: number}.String()
	var v registry.Version
	err := s.update(ctx, ref, func(tx *sql.Tx) error {
		var err error
		v, err = scanVersion(tx.QueryRowContext(ctx, selectVersion+` WHERE name = ? AND number = ?`, name, number))
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(ref, "version").WithRemedy("list them with galley models list")
		}
		if err != nil {
			return err
		}
		if err := releaseAliases(ctx, tx, v); err != nil {
			return err
		}
		if err := checkChildren(ctx, tx, v); err != nil {
			return err
		}
		if err := checkExperiments(ctx, tx, v); err != nil {
			return err
		}
		for _, statement := range []string{
			`DELETE FROM reports WHERE name = ? AND number = ?`,
			`DELETE FROM versions WHERE name = ? AND number = ?`,
		} {
			if _, err := tx.ExecContext(ctx, statement, name, number); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO deleted_versions (name, number, digest, deleted) VALUES (?, ?, ?, ?)`,
			name, number, string(v.Digest), unix(by.At))
		if err != nil {
			return err
		}
		return commit(ctx, tx, "model/"+name, ref, int64(number),
			store.Commit{By: by.By, At: by.At, Action: "version.delete", Detail: string(v.Digest)})
	})
	if err != nil {
		return registry.Version{}, err
	}
	return v, nil
}

func needed(v registry.Version, format string, args ...any) *galley.Error {
	return galley.Errorf(galley.FailedPrecondition, v.Ref(), "cannot be deleted: "+format, args...)
}

// releaseAliases takes a version out of the pasts of aliases, so that no
// rollback leads to it. It refuses a version that an alias points at.
func releaseAliases(ctx context.Context, tx *sql.Tx, v registry.Version) error {
	var aliases []registry.Alias
	rows, err := tx.QueryContext(ctx, selectAlias+` WHERE model = ? ORDER BY alias`, v.Name)
	err = each(rows, err, func() error {
		a, err := scanAlias(rows)
		aliases = append(aliases, a)
		return err
	})
	if err != nil {
		return err
	}
	for _, a := range aliases {
		last := len(a.Previous) - 1
		switch {
		case a.Target == v.Number:
			return needed(v, "the alias %s points at it", a.Name).
				WithRemedy("point the alias elsewhere first: galley models promote %s@N %s", v.Name, a.Name)
		case a.Name == registry.Prod && last >= 0 && a.Previous[last] == v.Number:
			return needed(v, "a rollback of %s would return to it", a.Name).
				WithRemedy("delete it when %s has moved on", a.Name)
		case !slices.Contains(a.Previous, v.Number):
			continue
		}
		body, err := encode(without(a, v.Number))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE aliases SET previous = ? WHERE model = ? AND alias = ?`, string(body), v.Name, a.Name); err != nil {
			return err
		}
	}
	return nil
}

// without is an alias' past without a version. Each of its moves still leads
// somewhere else.
func without(a registry.Alias, number int) []int {
	past := []int{}
	for _, n := range a.Previous {
		if n != number && (len(past) == 0 || past[len(past)-1] != n) {
			past = append(past, n)
		}
	}
	if last := len(past) - 1; last >= 0 && past[last] == a.Target {
		past = past[:last]
	}
	return past
}

// checkChildren refuses a version that another came from, or that a job is
// about to go on or to learn from, unless the same model is registered elsewhere, too.
func checkChildren(ctx context.Context, tx *sql.Tx, v registry.Version) error {
	var same int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM versions WHERE digest = ?`, string(v.Digest)).Scan(&same); err != nil || same > 1 {
		return err
	}
	var name string
	var number int
	for _, child := range []struct{ from, how string }{
		{`json_extract(CAST(body AS TEXT), '$.lineage.parent_digest') = ?`, "trained"},
		{`EXISTS (SELECT 1 FROM json_each(CAST(body AS TEXT), '$.lineage.distilled_from') WHERE json_extract(value, '$.digest') = ?)`, "distilled"},
	} {
		err := tx.QueryRowContext(ctx, `SELECT name, number FROM versions WHERE `+child.from+` ORDER BY id LIMIT 1`, string(v.Digest)).Scan(&name, &number)
		if err == nil {
			return needed(v, "%s was %s from it", galley.Ref{Name: name, Version: number}, child.how)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	for _, job := range []struct{ needs, how string }{
		{`json_extract(CAST(body AS TEXT), '$.parent') = ?`, "goes on"},
		{`EXISTS (SELECT 1 FROM json_each(CAST(body AS TEXT), '$.teachers') WHERE json_extract(value, '$.digest') = ?)`, "learns"},
	} {
		err := tx.QueryRowContext(ctx, `SELECT id FROM jobs WHERE phase IN (?, ?) AND `+job.needs+` ORDER BY number LIMIT 1`,
			string(trainer.Queued), string(trainer.Running), string(v.Digest)).Scan(&name)
		if err == nil {
			return needed(v, "the job %s %s from it", name, job.how)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	return nil
}
