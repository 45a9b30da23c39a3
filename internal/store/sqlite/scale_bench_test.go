//go:build bench

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"galley"
	"galley/internal/audit"
	"galley/internal/store/storetest"
	"galley/registry"
)

// TestBenchScale measures what a request costs in a home of 100,000 versions,
// half of them of one model, and 1,000,000 audit entries, against one of 1,000
// and 10,000.
func TestBenchScale(t *testing.T) {
	small, large := scaled(t, 1_000, 10_000), scaled(t, 100_000, 1_000_000)
	for _, tt := range []struct {
		name string
		do   func(*Store, int) error
	}{
		{"alias lookup", func(s *Store, i int) error {
			_, err := registry.ResolveTraffic(context.Background(), s, "news", "")
			return err
		}},
		{"lineage", func(s *Store, i int) error {
			v, err := s.Version(context.Background(), "news", 2+i%400)
			if err == nil {
				_, err = s.Find(context.Background(), v.Lineage.ParentDigest)
			}
			return err
		}},
		{"promote", func(s *Store, i int) error {
			_, err := s.Promote(context.Background(), registry.Request{Model: "news", Alias: "prod", Target: 1 + i%400, Expect: registry.AnyGeneration, By: "ann", At: time.Unix(int64(i), 0)})
			return err
		}},
	} {
		const rounds = 201
		var times [2][]time.Duration
		for i := range rounds { // in turn, so that both have the same machine
			for j, s := range []*Store{small, large} {
				began := time.Now()
				if err := tt.do(s, i); err != nil {
					t.Fatal(err)
				}
				times[j] = append(times[j], time.Since(began))
			}
		}
		slices.Sort(times[0])
		slices.Sort(times[1])
		a, b := times[0][rounds/2], times[1][rounds/2]
		t.Logf("%s: %v and %v, %.2f times", tt.name, a, b, float64(b)/float64(a))
		if b > 2*a {
			t.Errorf("%s costs more than twice as much", tt.name)
		}
	}
	for _, s := range []*Store{small, large} {
		began := time.Now()
		if err := s.References(t.Context(), func(galley.Digest) {}); err != nil {
			t.Fatal(err)
		}
		t.Logf("all references: %v", time.Since(began))
	}
}

// scaled makes a home with so many versions and audit entries.
func scaled(t *testing.T, versions, entries int) *Store {
	t.Helper()
	s := open(t, t.TempDir())
	err := s.update(t.Context(), "scale", func(tx *sql.Tx) error {
		var parent galley.Digest
		for i := range versions {
			v := storetest.Version("news", i)
			if v.Lineage.ParentDigest = parent; i%2 == 1 {
				v.Name = fmt.Sprint("model-", i%1000)
			}
			v, err := v.Complete()
			if err != nil {
				return err
			}
			if parent == "" {
				parent = v.Digest
			}
			if v.Number = i/2 + 1; i%2 == 1 {
				v.Number = i/1000 + 1
			}
			body, err := encode(v)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO versions (name, number, digest, task, created, body) VALUES (?, ?, ?, ?, ?, ?)`,
				v.Name, v.Number, string(v.Digest), v.Task, unix(v.Created), body); err != nil {
				return err
			}
		}
		head := audit.Head{Digest: audit.Start}
		insert, err := tx.PrepareContext(t.Context(), `INSERT INTO audit (number, at, actor, action, subject, detail, digest) VALUES (?, ?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for i := range entries {
			e := audit.Entry{
				Number: int64(i + 1), At: fromUnix(int64(i)), Actor: "ann", Action: "alias.promote",
				Subject: fmt.Sprintf("model-%d:prod", i%1000), Detail: fmt.Sprint("model@", i),
			}.Chained(head.Digest)
			if _, err := insert.ExecContext(t.Context(), e.Number, unix(e.At), string(e.Actor), e.Action, e.Subject, e.Detail, string(e.Digest)); err != nil {
				return err
			}
			head = audit.Head{Entries: e.Number, Digest: e.Digest}
		}
		return setAuditHead(t.Context(), tx, head)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
