package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"galley"
	"galley/experiment"
	"galley/internal/store"
	"galley/registry"
)

// CreateExperiment stores a new experiment and returns it with its ID. Its
// versions must be there, and no other experiment may run on the model.
func (s *Store) CreateExperiment(ctx context.Context, e experiment.Experiment, c store.Commit) (experiment.Experiment, error) {
	if err := e.Check(); err != nil {
		return e, err
	}
	e.Generation = 1
	return e, s.update(ctx, e.Name, func(tx *sql.Tx) error {
		for _, arm := range experiment.Arms {
			if err := requireVersion(ctx, tx, e.Model, e.Versions[arm]); err != nil {
				return err
			}
		}
		if err := checkRivals(ctx, tx, e); err != nil {
			return err
		}
		r, err := tx.ExecContext(ctx, `INSERT INTO experiments (name, model, state, generation, body) VALUES (?, ?, ?, ?, x'')`,
			e.Name, e.Model, string(e.State), e.Generation)
		if err != nil {
			return err
		}
		if e.ID, err = r.LastInsertId(); err != nil {
			return err
		}
		return saveExperiment(ctx, tx, e, c)
	})
}

// requireVersion returns NotFound for a version that is not there, and says so
// if it was deleted.
func requireVersion(ctx context.Context, tx *sql.Tx, name string, number int) error {
	ref := galley.Ref{Name: name, Version: number}.String()
	var there, deleted int
	err := tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM versions WHERE name = ?1 AND number = ?2),
		(SELECT count(*) FROM deleted_versions WHERE name = ?1 AND number = ?2)`, name, number).Scan(&there, &deleted)
	switch {
	case err != nil || there > 0:
		return err
	case deleted > 0:
		return galley.Errorf(galley.NotFound, ref, "was deleted").WithRemedy("list what there is with galley models list")
	default:
		return notFound(ref, "version").WithRemedy("list them with galley models list")
	}
}

// Deleted reports whether a version was there and was deleted.
func (s *Store) Deleted(ctx context.Context, name string, number int) (bool, error) {
	var n int
	err := s.view(ctx, name, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM deleted_versions WHERE name = ? AND number = ?`, name, number).Scan(&n)
	})
	return n > 0, err
}

func checkRivals(ctx context.Context, tx *sql.Tx, e experiment.Experiment) error {
	var name string
	err := tx.QueryRowContext(ctx, `SELECT name FROM experiments WHERE name = ?`, e.Name).Scan(&name)
	if err == nil {
		return galley.Errorf(galley.AlreadyExists, e.Name, "there is such an experiment already").
			WithRemedy("choose another name; galley ab show %s shows it", e.Name)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	err = tx.QueryRowContext(ctx, `SELECT name FROM experiments WHERE model = ? AND state = ?`, e.Model, string(experiment.Running)).Scan(&name)
	if err == nil {
		return galley.Errorf(galley.FailedPrecondition, e.Model, "the experiment %s runs on this model already", name).
			WithRemedy("end it first: galley ab stop %s, or galley ab decide %s", name, name)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

func saveExperiment(ctx context.Context, tx *sql.Tx, e experiment.Experiment, c store.Commit) error {
	body, err := encode(e)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE experiments SET state = ?, generation = ?, body = ? WHERE id = ?`, string(e.State), e.Generation, body, e.ID)
	if err != nil {
		return err
	}
	return commit(ctx, tx, "experiment/"+e.Model+"/"+e.Name, e.Name, e.Generation, c)
}

// ChangeExperiment lets f change an experiment, in one transaction with what
// it read. The change that moved the alias, if f asks for that, is returned,
// too.
func (s *Store) ChangeExperiment(ctx context.Context, name string, f func(store.ExperimentRecord) (store.ExperimentChange, error)) (experiment.Experiment, *registry.Change, error) {
	var changed experiment.Experiment
	var moved *registry.Change
	err := s.update(ctx, name, func(tx *sql.Tx) error {
		before, err := loadExperiment(ctx, tx, name)
		if err != nil {
			return err
		}
		change, err := f(before)
		if err != nil {
			return err
		}
		changed = change.Experiment
		if change.Commit.Action == "" && change.Promote == nil {
			return nil // nothing happened
		}
		changed.Generation++
		if err := saveExperiment(ctx, tx, changed, change.Commit); err != nil {
			return err
		}
		if change.Promote == nil {
			return nil
		}
		c, err := moveIn(ctx, tx, *change.Promote, promoteStep(ctx, *change.Promote))
		moved = &c
		return err
	})
	if err != nil {
		return experiment.Experiment{}, nil, err
	}
	return changed, moved, nil
}

// Experiment returns an experiment with its totals.
func (s *Store) Experiment(ctx context.Context, name string) (store.ExperimentRecord, error) {
	var r store.ExperimentRecord
	err := s.view(ctx, name, func(tx *sql.Tx) error {
		var err error
		r, err = loadExperiment(ctx, tx, name)
		return err
	})
	return r, err
}

// ExperimentName returns the name of the experiment with an ID.
func (s *Store) ExperimentName(ctx context.Context, id uint32) (string, error) {
	var name string
	err := s.view(ctx, "experiment", func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT name FROM experiments WHERE id = ?`, id).Scan(&name)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(fmt.Sprintf("experiment %d", id), "experiment")
		}
		return err
	})
	return name, err
}

// Experiments returns up to limit experiments, the newest first.
func (s *Store) Experiments(ctx context.Context, limit int) ([]store.ExperimentRecord, error) {
	return s.experiments(ctx, `SELECT name FROM experiments ORDER BY id DESC LIMIT ?`, limit)
}

// LatestExperiments returns the last experiment of each model, the newest first
// and up to limit. If one runs on a model, it is that.
func (s *Store) LatestExperiments(ctx context.Context, limit int) ([]store.ExperimentRecord, error) {
	return s.experiments(ctx, `SELECT name FROM experiments WHERE id IN (SELECT max(id) FROM experiments GROUP BY model) ORDER BY id DESC LIMIT ?`, limit)
}

func (s *Store) experiments(ctx context.Context, query string, limit int) ([]store.ExperimentRecord, error) {
	var out []store.ExperimentRecord
	err := s.view(ctx, "experiments", func(tx *sql.Tx) error {
		var names []string
		rows, err := tx.QueryContext(ctx, query, bounded(limit))
		err = each(rows, err, func() error {
			var name string
			err := rows.Scan(&name)
			names = append(names, name)
			return err
		})
		if err != nil {
			return err
		}
		for _, name := range names {
			r, err := loadExperiment(ctx, tx, name)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

// Routing returns the experiments that decide where traffic goes: those that
// run, and the last of a model while its hold lasts. With a model, only its.
func (s *Store) Routing(ctx context.Context, model string) ([]experiment.Experiment, error) {
	var out []experiment.Experiment
	err := s.view(ctx, "experiments", func(tx *sql.Tx) error {
		var err error
		out, err = routing(ctx, tx, model)
		return err
	})
	return out, err
}

func routing(ctx context.Context, tx *sql.Tx, model string) ([]experiment.Experiment, error) {
	var out []experiment.Experiment
	rows, err := tx.QueryContext(ctx, `SELECT e.name, e.body, coalesce(a.generation, 0) FROM experiments e
		LEFT JOIN aliases a ON a.model = e.model AND a.alias = ?
		WHERE e.id IN (SELECT max(id) FROM experiments WHERE ?2 = '' OR model = ?2 GROUP BY model)`, registry.Prod, model)
	return out, each(rows, err, func() error {
		var name string
		var body []byte
		var prod int64
		if err := rows.Scan(&name, &body, &prod); err != nil {
			return err
		}
		var e experiment.Experiment
		if err := decode(name, body, &e); err != nil {
			return err
		}
		if e.State == experiment.Running || e.Hold != nil && e.Hold.Generation == prod {
			out = append(out, e)
		}
		return nil
	})
}

// checkExperiments refuses to delete a version that traffic goes to because of
// an experiment.
func checkExperiments(ctx context.Context, tx *sql.Tx, v registry.Version) error {
	experiments, err := routing(ctx, tx, v.Name)
	if err != nil {
		return err
	}
	for _, e := range experiments {
		running := e.State == experiment.Running
		if v.Number != e.Versions[experiment.Control] && (!running || v.Number != e.Versions[experiment.Treatment]) {
			continue
		}
		if running {
			return needed(v, "the experiment %s compares it", e.Name).
				WithRemedy("end the experiment first: galley ab stop %s", e.Name)
		}
		return needed(v, "traffic goes to it since the end of the experiment %s", e.Name).
			WithRemedy("let traffic follow %s again first: galley ab stop %s", registry.Prod, e.Name)
	}
	return nil
}

func loadExperiment(ctx context.Context, tx *sql.Tx, name string) (store.ExperimentRecord, error) {
	var r store.ExperimentRecord
	var body []byte
	err := tx.QueryRowContext(ctx, `SELECT body FROM experiments WHERE name = ?`, name).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return r, notFound(galley.Clip(name, 80), "experiment").WithRemedy("list them with galley ab list")
	}
	if err != nil {
		return r, err
	}
	if err := decode(name, body, &r.Experiment); err != nil {
		return r, err
	}
	r.Totals = make([][2]experiment.Totals, len(r.Stages))
	rows, err := tx.QueryContext(ctx, `SELECT stage, arm, requests, errors, empty, outcomes, sum, keys, key_sum FROM experiment_totals WHERE experiment = ?`, r.ID)
	err = each(rows, err, func() error {
		var stage, arm int
		var t experiment.Totals
		var sum, keySum int64
		err := rows.Scan(&stage, &arm, &t.Requests, &t.Errors, &t.Empty, &t.Outcomes.N, &sum, &t.Keys.N, &keySum)
		if err != nil {
			return err
		}
		if stage >= len(r.Totals) || arm >= len(experiment.Arms) {
			return galley.Errorf(galley.DataLoss, name, "has counts of stage %d, arm %d", stage, arm).WithRemedy(restoreRemedy)
		}
		t.Outcomes.Sum, t.Keys.Sum = float64(sum)/store.Micros, float64(keySum)/store.Micros
		r.Totals[stage][arm] = t
		return nil
	})
	if err != nil {
		return r, err
	}
	r.Prod, err = scanAlias(tx.QueryRowContext(ctx, selectAlias+` WHERE model = ? AND alias = ?`, r.Model, registry.Prod))
	if errors.Is(err, sql.ErrNoRows) {
		r.Prod, err = registry.Alias{}, nil
	}
	return r, err
}
