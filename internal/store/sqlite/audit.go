package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"galley"
	"galley/internal/audit"
	"galley/internal/store"
)

// record appends an entry to the audit log, in the transaction of the change
// that it tells of.
func record(ctx context.Context, tx *sql.Tx, e audit.Entry) error {
	h, err := auditHead(ctx, tx)
	if err != nil {
		return err
	}
	e.Number = h.Entries + 1
	e = e.Chained(h.Digest)
	_, err = tx.ExecContext(ctx, `INSERT INTO audit (number, at, actor, action, subject, detail, address, token, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.Number, unix(e.At), string(e.Actor), e.Action, e.Subject, e.Detail, e.Address, e.Token, string(e.Digest))
	if err != nil {
		return err
	}
	return setAuditHead(ctx, tx, audit.Head{Entries: e.Number, Digest: e.Digest})
}

func auditHead(ctx context.Context, tx *sql.Tx) (audit.Head, error) {
	var h audit.Head
	err := tx.QueryRowContext(ctx, `SELECT entries, digest FROM audit_head`).Scan(&h.Entries, &h.Digest)
	if errors.Is(err, sql.ErrNoRows) {
		return h, galley.Errorf(galley.DataLoss, "audit log", "its head is missing").
			WithRemedy("the database was changed from outside: restore it from a backup, with galley restore")
	}
	return h, err
}

func setAuditHead(ctx context.Context, tx *sql.Tx, h audit.Head) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO audit_head (id, entries, digest) VALUES (1, ?, ?)
		ON CONFLICT (id) DO UPDATE SET entries = excluded.entries, digest = excluded.digest`, h.Entries, string(h.Digest))
	return err
}

// AuditHead returns the number of entries of the audit log and the digest of
// the last.
func (s *Store) AuditHead(ctx context.Context) (audit.Head, error) {
	var h audit.Head
	err := s.view(ctx, "audit log", func(tx *sql.Tx) error {
		var err error
		h, err = auditHead(ctx, tx)
		return err
	})
	return h, err
}

// Audit returns entries of the audit log in their order.
func (s *Store) Audit(ctx context.Context, q store.AuditQuery) ([]audit.Entry, error) {
	where, args := []string{`number > ?`}, []any{q.After}
	if q.Actor != "" {
		where, args = append(where, `actor = ?`), append(args, string(q.Actor))
	}
	if q.Subject != "" {
		where, args = append(where, `subject = ?`), append(args, q.Subject)
	}
	query := selectAudit + ` WHERE ` + strings.Join(where, ` AND `)
	if q.Newest {
		query = `SELECT * FROM (` + query + ` ORDER BY number DESC LIMIT ?) ORDER BY number`
	} else {
		query += ` ORDER BY number LIMIT ?`
	}
	var out []audit.Entry
	err := s.view(ctx, "audit log", func(tx *sql.Tx) error {
		var err error
		out, err = auditEntries(ctx, tx, query, append(args, bounded(q.Limit))...)
		return err
	})
	return out, err
}

const selectAudit = `SELECT number, at, actor, action, subject, detail, address, token, digest FROM audit`

func auditEntries(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]audit.Entry, error) {
	var out []audit.Entry
	rows, err := tx.QueryContext(ctx, query, args...)
	err = each(rows, err, func() error {
		var e audit.Entry
		var at int64
		err := rows.Scan(&e.Number, &at, &e.Actor, &e.Action, &e.Subject, &e.Detail, &e.Address, &e.Token, &e.Digest)
		e.At = fromUnix(at)
		out = append(out, e)
		return err
	})
	return out, err
}

// chainAudit chains the entries of a log that has no digests yet, and notes
// in it that it did: what happened to them before does not show.
func chainAudit(ctx context.Context, tx *sql.Tx, now int64) error {
	h := audit.Head{Digest: audit.Start}
	for last := int64(0); ; {
		entries, err := auditEntries(ctx, tx, selectAudit+` WHERE number > ? ORDER BY number LIMIT ?`, last, store.MaxList)
		if err != nil {
			return err
		}
		for _, e := range entries {
			was := e.Number
			e.Number = h.Entries + 1
			e = e.Chained(h.Digest)
			_, err := tx.ExecContext(ctx, `UPDATE audit SET number = ?, actor = ?, action = ?, subject = ?, detail = ?, digest = ? WHERE number = ?`,
				e.Number, string(e.Actor), e.Action, e.Subject, e.Detail, string(e.Digest), was)
			if err != nil {
				return err
			}
			h, last = audit.Head{Entries: e.Number, Digest: e.Digest}, was
		}
		if len(entries) < store.MaxList {
			break
		}
	}
	if err := setAuditHead(ctx, tx, h); err != nil || h.Entries == 0 {
		return err
	}
	return record(ctx, tx, audit.Entry{
		At: fromUnix(now), Actor: galley.System, Action: "audit.chain", Subject: "audit log",
		Detail: "the entries before this one were written without digests",
	})
}
