package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"galley"
	"galley/internal/auth"
	"galley/internal/store"
)

// maxTokens bounds the tokens of a home, those that are dead included: all of
// them are held in memory.
const maxTokens = 10_000

// AddToken stores a new token. There may be no other live token with its
// name: the audit log shows names.
func (s *Store) AddToken(ctx context.Context, t auth.Token, c store.Commit) error {
	if err := t.Check(); err != nil {
		return err
	}
	return s.update(ctx, tokenSubject(t), func(tx *sql.Tx) error {
		var id string
		err := tx.QueryRowContext(ctx, `SELECT id FROM tokens WHERE name = ? AND revoked = 0 AND (expires = 0 OR expires > ?) LIMIT 1`,
			t.Name, unix(c.At)).Scan(&id)
		if err == nil {
			return galley.Errorf(galley.AlreadyExists, t.Name, "the token %s has this name", id).
				WithRemedy("choose another name, or renew that one: galley auth token rotate %s", id)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		return insertToken(ctx, tx, t, c)
	})
}

func insertToken(ctx context.Context, tx *sql.Tx, t auth.Token, c store.Commit) error {
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM tokens`).Scan(&n); err != nil {
		return err
	}
	if n >= maxTokens {
		return galley.Errorf(galley.ResourceExhausted, "tokens", "there are %d already", n).
			WithRemedy("rotate tokens only when they must be renewed")
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO tokens (id, name, role, tenant, digest, created, expires, revoked, replaces) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		t.ID, t.Name, string(t.Role), t.Tenant, t.Digest[:], moment(t.Created), moment(t.Expires), moment(t.Revoked), t.Replaces)
	if err != nil {
		return err
	}
	return commit(ctx, tx, "token/"+t.ID, tokenSubject(t), 0, c)
}

// RotateToken stores the token that takes the place of another, and lets the
// other expire at a time, unless it does so before, and returns it. A token
// that is dead cannot be rotated.
func (s *Store) RotateToken(ctx context.Context, next auth.Token, until time.Time, c store.Commit) (auth.Token, error) {
	if err := next.Check(); err != nil {
		return auth.Token{}, err
	}
	var old auth.Token
	err := s.update(ctx, next.Replaces, func(tx *sql.Tx) error {
		var err error
		if old, err = token(ctx, tx, next.Replaces); err != nil {
			return err
		}
		if !old.Live(c.At) {
			return galley.Errorf(galley.FailedPrecondition, old.ID, "is dead: it has expired or was revoked").
				WithRemedy("make a new one: galley auth token create --role %s --name %s", old.Role, old.Name)
		}
		if old.Expires.IsZero() || until.Before(old.Expires) {
			old.Expires = until.UTC()
		}
		if _, err := tx.ExecContext(ctx, `UPDATE tokens SET expires = ? WHERE id = ?`, moment(old.Expires), old.ID); err != nil {
			return err
		}
		return insertToken(ctx, tx, next, c)
	})
	return old, err
}

// RevokeToken ends a token at once, and returns it. To revoke it again
// changes nothing.
func (s *Store) RevokeToken(ctx context.Context, id string, c store.Commit) (auth.Token, error) {
	var t auth.Token
	err := s.update(ctx, id, func(tx *sql.Tx) error {
		var err error
		if t, err = token(ctx, tx, id); err != nil || !t.Revoked.IsZero() {
			return err
		}
		t.Revoked = c.At.UTC()
		if _, err := tx.ExecContext(ctx, `UPDATE tokens SET revoked = ? WHERE id = ?`, moment(t.Revoked), id); err != nil {
			return err
		}
		return commit(ctx, tx, "token/"+t.ID, tokenSubject(t), 0, c)
	})
	return t, err
}

// refusal is the aggregate of what was not done. It has no owner.
const refusal = "refusal"

// NoteRefusal leaves an entry in the audit log that a known caller was
// refused something.
func (s *Store) NoteRefusal(ctx context.Context, what string, c store.Commit) error {
	return s.update(ctx, what, func(tx *sql.Tx) error { return commit(ctx, tx, refusal, what, 0, c) })
}

// Tokens returns all tokens, dead ones included.
func (s *Store) Tokens(ctx context.Context) ([]auth.Token, error) {
	var out []auth.Token
	err := s.view(ctx, "tokens", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, selectToken+` ORDER BY created, id`)
		return each(rows, err, func() error {
			t, err := scanToken(rows)
			out = append(out, t)
			return err
		})
	})
	return out, err
}

func token(ctx context.Context, tx *sql.Tx, id string) (auth.Token, error) {
	t, err := scanToken(tx.QueryRowContext(ctx, selectToken+` WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return t, notFound(id, "token").WithRemedy("list them with galley auth token list")
	}
	return t, err
}

const selectToken = `SELECT id, name, role, tenant, digest, created, expires, revoked, replaces FROM tokens`

func scanToken(row interface{ Scan(...any) error }) (auth.Token, error) {
	var t auth.Token
	var digest []byte
	var created, expires, revoked int64
	if err := row.Scan(&t.ID, &t.Name, &t.Role, &t.Tenant, &digest, &created, &expires, &revoked, &t.Replaces); err != nil {
		return t, err
	}
	if copy(t.Digest[:], digest) != len(t.Digest) {
		return t, galley.Errorf(galley.DataLoss, t.ID, "the stored digest has %d bytes", len(digest))
	}
	t.Created, t.Expires, t.Revoked = fromMoment(created), fromMoment(expires), fromMoment(revoked)
	return t, nil
}

// tokenSubject names a token in the audit log.
func tokenSubject(t auth.Token) string { return t.Name + "/" + t.ID }

// moment is a time that may be none.
func moment(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return unix(t)
}

func fromMoment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return fromUnix(n)
}
