package sqlite

import (
	"context"
	"database/sql"
	"regexp"
	"time"

	"galley"
)

// referring are the rows that name blobs: versions their artifacts and
// parents, datasets their records, jobs that may still run their parents,
// pending effects what they are to publish, federations what their next weights
// are made of, uploads themselves. Each digest
// in them counts, whatever it is of: a blob too many is kept rather than one
// too few.
var referring = map[string]string{
	"versions":    `SELECT body FROM versions`,
	"datasets":    `SELECT manifest FROM datasets`,
	"jobs":        `SELECT body FROM jobs WHERE phase <> 'succeeded'`,
	"effects":     `SELECT payload FROM effects WHERE done = 0`,
	"federations": `SELECT holds FROM federations WHERE job IN (SELECT id FROM jobs WHERE phase <> 'succeeded')`,
	"uploads":     `SELECT digest FROM uploads`,
}

var digestInText = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// References calls named with the digest of every blob that a row names, as
// of one moment; also with others, and more than once.
func (s *Store) References(ctx context.Context, named func(galley.Digest)) error {
	return s.view(ctx, "references", func(tx *sql.Tx) error {
		for _, query := range referring {
			rows, err := tx.QueryContext(ctx, query)
			err = each(rows, err, func() error {
				var text sql.RawBytes
				if err := rows.Scan(&text); err != nil {
					return err
				}
				for _, d := range digestInText.FindAll(text, -1) {
					named(galley.Digest(d))
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// AddUpload notes that a client sent a model, named by the digest of its list
// of files. Noting it again renews it.
func (s *Store) AddUpload(ctx context.Context, d galley.Digest, at time.Time) error {
	return s.update(ctx, string(d), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO uploads (digest, created) VALUES (?, ?)
			ON CONFLICT (digest) DO UPDATE SET created = excluded.created`, string(d), unix(at))
		return err
	})
}

// ForgetUploads forgets the uploads from before a time. What a job or a
// version came from is still named by them.
func (s *Store) ForgetUploads(ctx context.Context, before time.Time) error {
	return s.update(ctx, "uploads", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM uploads WHERE created < ?`, unix(before))
		return err
	})
}
