//go:build unix

package sqlite

import (
	"testing"
	"time"

	"galley"
	"galley/internal/auth"
	"galley/internal/store"
	"galley/internal/store/storetest"
	"galley/registry"
)

// What a home had before there were tenants is the house's: no tenant takes
// it over by being the first to write.
func TestOldNamesAreTheHouses(t *testing.T) {
	for schema := 1; schema < 4; schema++ {
		s := open(t, oldHome(t, schema))
		ctx := auth.WithCaller(t.Context(), auth.Caller{Actor: "someone", Role: auth.Engineer, Tenant: "sports"})
		at := storetest.Version("news", 0).Created
		_, _, err := s.Register(ctx, storetest.Version("news", 77))
		if galley.CodeOf(err) != galley.PermissionDenied {
			t.Errorf("schema %d, version: %v", schema, err)
		}
		if _, err := s.Promote(ctx, registry.Request{Model: "news", Alias: "fresh", Target: 1, Expect: registry.AnyGeneration, By: "someone", At: at}); galley.CodeOf(err) != galley.PermissionDenied {
			t.Errorf("schema %d, alias: %v", schema, err)
		}
		all, err := s.Datasets(ctx, "", 10)
		if err != nil || len(all) == 0 {
			t.Fatalf("%+v, %v", all, err)
		}
		if _, _, err := s.AddDataset(ctx, storetest.Manifest(all[0].Name, 77), store.Commit{By: "someone", At: at, Action: "data.add"}); galley.CodeOf(err) != galley.PermissionDenied {
			t.Errorf("schema %d, dataset: %v", schema, err)
		}
		jobs, err := s.Jobs(ctx, store.JobQuery{})
		if err != nil || len(jobs) == 0 {
			t.Fatalf("%+v, %v", jobs, err)
		}
		if _, err := s.SaveJob(ctx, jobs[0], store.Commit{By: "someone", At: at, Action: "job.cancel"}); galley.CodeOf(err) != galley.PermissionDenied {
			t.Errorf("schema %d, job: %v", schema, err)
		}
		if _, _, err := s.Register(ctx, storetest.Version("sports-news", 1)); err != nil {
			t.Errorf("schema %d, a new name: %v", schema, err)
		}
	}
}

// Tokens are bounded however they are made.
func TestTokensAreBounded(t *testing.T) {
	s := open(t, t.TempDir())
	at := storetest.Version("news", 0).Created
	made := func(name, replaces string) auth.Token {
		_, id, digest := auth.NewSecret()
		return auth.Token{ID: id, Name: name, Role: auth.Viewer, Digest: digest, Created: at, Replaces: replaces}
	}
	first := made("reader", "")
	if err := s.AddToken(t.Context(), first, store.Commit{By: "admin", At: at, Action: "auth.create"}); err != nil {
		t.Fatal(err)
	}
	_, err := s.write.ExecContext(t.Context(), `WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO tokens SELECT i, i, 'viewer', '', zeroblob(32), 1, 2, 0, '' FROM n`, maxTokens)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddToken(t.Context(), made("another", ""), store.Commit{By: "admin", At: at, Action: "auth.create"}); galley.CodeOf(err) != galley.ResourceExhausted {
		t.Errorf("added: %v", err)
	}
	if _, err := s.RotateToken(t.Context(), made("reader", first.ID), at.Add(time.Hour), store.Commit{By: "admin", At: at, Action: "auth.rotate"}); galley.CodeOf(err) != galley.ResourceExhausted {
		t.Errorf("rotated: %v", err)
	}
	all, err := s.Tokens(t.Context())
	if err != nil || len(all) != maxTokens {
		t.Errorf("%d tokens, %v", len(all), err)
	}
}
