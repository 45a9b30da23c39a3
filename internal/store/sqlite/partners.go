package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"galley"
	"galley/internal/store"
)

// EnrolPartner stores a new partner, or with replace the certificate that takes
// the place of the one it has. Whether its access was revoked stays as it was.
func (s *Store) EnrolPartner(ctx context.Context, p store.Partner, replace bool, c store.Commit) (store.Partner, error) {
	err := s.update(ctx, p.Name, func(tx *sql.Tx) error {
		var holder string
		err := tx.QueryRowContext(ctx, `SELECT name FROM partners WHERE fingerprint = ?`, string(p.Fingerprint)).Scan(&holder)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err == nil && holder != p.Name {
			return galley.Errorf(galley.AlreadyExists, p.Name, "the certificate is enrolled as that of %s", holder).
				WithRemedy("each partner has a key of its own: galley partner keygen")
		}
		before, err := partner(ctx, tx, p.Name)
		switch {
		case galley.CodeOf(err) == galley.NotFound:
			var n int
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM partners`).Scan(&n); err != nil {
				return err
			}
			if n >= store.MaxPartners {
				return galley.Errorf(galley.ResourceExhausted, "partners", "%d are enrolled already", n)
			}
		case err != nil:
			return err
		case before.Fingerprint == p.Fingerprint:
			p = before
			return nil // it is as it was asked for
		case !replace:
			return galley.Errorf(galley.AlreadyExists, p.Name, "is enrolled with another certificate, %s", before.Fingerprint.Short()).
				WithRemedy("have the new one take its place: galley federation enrol %s --cert FILE --replace", p.Name)
		default:
			p.Enrolled, p.Revoked = before.Enrolled, before.Revoked
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO partners (name, fingerprint, certificate, enrolled, revoked) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET fingerprint = excluded.fingerprint, certificate = excluded.certificate`,
			p.Name, string(p.Fingerprint), p.Certificate, unix(p.Enrolled), p.Revoked)
		if err != nil {
			return err
		}
		return commit(ctx, tx, "partner/"+p.Name, p.Name, 0, c)
	})
	return p, err
}

// SetRevoked says why a partner has no access, or with "" that it has it again.
// Saying what is so already changes nothing.
func (s *Store) SetRevoked(ctx context.Context, name, why string, c store.Commit) (store.Partner, error) {
	var p store.Partner
	err := s.update(ctx, name, func(tx *sql.Tx) error {
		var err error
		if p, err = partner(ctx, tx, name); err != nil || (p.Revoked == "") == (why == "") {
			return err
		}
		p.Revoked = why
		if _, err := tx.ExecContext(ctx, `UPDATE partners SET revoked = ? WHERE name = ?`, why, name); err != nil {
			return err
		}
		return commit(ctx, tx, "partner/"+name, name, 0, c)
	})
	return p, err
}

const selectPartner = `SELECT name, fingerprint, certificate, enrolled, revoked FROM partners`

func partner(ctx context.Context, tx *sql.Tx, name string) (store.Partner, error) {
	p, err := scanPartner(tx.QueryRowContext(ctx, selectPartner+` WHERE name = ?`, name))
	if errors.Is(err, sql.ErrNoRows) {
		return p, notFound(galley.Clip(name, 80), "partner").WithRemedy("list them with galley federation partners")
	}
	return p, err
}

func scanPartner(row interface{ Scan(...any) error }) (store.Partner, error) {
	var p store.Partner
	var enrolled int64
	err := row.Scan(&p.Name, &p.Fingerprint, &p.Certificate, &enrolled, &p.Revoked)
	p.Enrolled = fromUnix(enrolled)
	return p, err
}

// Partners returns all partners, by name.
func (s *Store) Partners(ctx context.Context) ([]store.Partner, error) {
	var out []store.Partner
	err := s.view(ctx, "partners", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, selectPartner+` ORDER BY name`)
		return each(rows, err, func() error {
			p, err := scanPartner(rows)
			out = append(out, p)
			return err
		})
	})
	return out, err
}

// JoinFederation keeps a partner's agreement, and makes it the present one with
// the federation that it names. The present one, handed over again, changes
// nothing.
func (s *Store) JoinFederation(ctx context.Context, m store.Membership, file []byte, c store.Commit) error {
	body, err := encode(m.Agreement)
	if err != nil {
		return err
	}
	return s.update(ctx, m.Partner, func(tx *sql.Tx) error {
		p, err := partner(ctx, tx, m.Partner)
		if err != nil {
			return err
		}
		if p.Revoked != "" {
			return galley.Errorf(galley.PermissionDenied, p.Name, "its access was revoked: %s", p.Revoked).
				WithRemedy("ask the coordinator to reinstate it")
		}
		var present string
		err = tx.QueryRowContext(ctx, `SELECT agreement FROM memberships WHERE partner = ? AND federation = ?`, m.Partner, m.Federation).Scan(&present)
		if err == nil && present == string(m.Digest) {
			return nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := boundAgreements(ctx, tx, m, present == ""); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO agreements (digest, partner, federation, file, joined) VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING`,
			string(m.Digest), m.Partner, m.Federation, file, unix(c.At))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO memberships (partner, federation, agreement, body) VALUES (?, ?, ?, ?)
			ON CONFLICT (partner, federation) DO UPDATE SET agreement = excluded.agreement, body = excluded.body`,
			m.Partner, m.Federation, string(m.Digest), body)
		if err != nil {
			return err
		}
		return commit(ctx, tx, "partner/"+m.Partner, m.Federation, 0, c)
	})
}

// boundAgreements bounds what a partner has a home keep.
func boundAgreements(ctx context.Context, tx *sql.Tx, m store.Membership, first bool) error {
	var known, agreements, memberships int
	err := tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM agreements WHERE digest = ?2),
		(SELECT count(*) FROM agreements WHERE partner = ?1), (SELECT count(*) FROM memberships WHERE partner = ?1)`,
		m.Partner, string(m.Digest)).Scan(&known, &agreements, &memberships)
	switch {
	case err != nil:
		return err
	case first && memberships >= store.MaxMemberships:
		return galley.Errorf(galley.ResourceExhausted, m.Partner, "has joined %d federations already", memberships)
	case known == 0 && agreements >= store.MaxAgreements:
		return galley.Errorf(galley.ResourceExhausted, m.Partner, "has handed over %d agreements already", agreements).
			WithRemedy("join with one of them, or as another partner")
	}
	return nil
}

// Memberships returns the memberships of a partner, or of a federation, or all:
// an empty name is any.
func (s *Store) Memberships(ctx context.Context, partner, federationName string) ([]store.Membership, error) {
	var out []store.Membership
	err := s.view(ctx, "memberships", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT partner, federation, agreement, body FROM memberships
			WHERE (?1 = '' OR partner = ?1) AND (?2 = '' OR federation = ?2) ORDER BY partner, federation`, partner, federationName)
		return each(rows, err, func() error {
			var m store.Membership
			var body []byte
			if err := rows.Scan(&m.Partner, &m.Federation, &m.Digest, &body); err != nil {
				return err
			}
			out = append(out, m)
			return decode(m.Partner, body, &out[len(out)-1].Agreement)
		})
	})
	return out, err
}

// Agreement returns an agreement as it was handed over.
func (s *Store) Agreement(ctx context.Context, d galley.Digest) (store.Agreement, error) {
	var a store.Agreement
	err := s.view(ctx, string(d), func(tx *sql.Tx) error {
		var joined int64
		err := tx.QueryRowContext(ctx, `SELECT digest, partner, federation, file, joined FROM agreements WHERE digest = ?`, string(d)).
			Scan(&a.Digest, &a.Partner, &a.Federation, &a.File, &joined)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound(galley.Clip(string(d), 80), "agreement").WithRemedy("galley federation partners names those of the present")
		}
		a.Joined = fromUnix(joined)
		return err
	})
	return a, err
}
