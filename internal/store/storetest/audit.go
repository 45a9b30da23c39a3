package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"galley"
	"galley/internal/audit"
	"galley/internal/store"
	"galley/trainer"
)

func entries(t testing.TB, s Store, q store.AuditQuery) []audit.Entry {
	t.Helper()
	return must[[]audit.Entry](t)(s.Audit(context.Background(), q))
}

// checkChain verifies the whole log against its head and against others, and
// returns its head.
func checkChain(t testing.TB, s Store, kept ...audit.Head) audit.Head {
	t.Helper()
	head := must[audit.Head](t)(s.AuditHead(context.Background()))
	v := audit.NewVerifier(append(kept, head)...)
	for {
		some := entries(t, s, store.AuditQuery{After: v.At().Entries, Limit: 7})
		for _, e := range some {
			if err := v.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if len(some) < 7 {
			break
		}
	}
	if err := v.Finish(); err != nil || v.At() != head {
		t.Fatalf("at %+v of %+v: %v", v.At(), head, err)
	}
	return head
}

func testAudit(t *testing.T, s Store) {
	ctx := galley.WithOrigin(t.Context(), galley.Origin{Address: "127.0.0.1:4000", Token: "t-1"})
	j := must[trainer.Job](t)(s.CreateJob(ctx, Job("a"), by("job.submit")))
	must[trainer.Job](t)(s.SaveJob(ctx, j, by(""))) // progress leaves no entry
	register(t, s, Version("news", 1))              // asked for by no request
	promote(t, s, "news", "prod", 1)
	if err := s.Record(ctx, "home", by("home.backup")); err != nil {
		t.Fatal(err)
	}
	got := entries(t, s, store.AuditQuery{})
	var lines []string
	for i, e := range got {
		if !e.At.Equal(noon) || e.Number != int64(i+1) {
			t.Errorf("number %d, time %s", e.Number, e.At)
		}
		lines = append(lines, fmt.Sprint(e.Actor, " ", e.Action, " ", e.Subject, " ", e.Address, " ", e.Token))
	}
	wantEqual(t, "audit", lines, []string{
		"editor job.submit a 127.0.0.1:4000 t-1", "editor version.register news@1  ", "editor alias.promote news:prod  ",
		"editor home.backup home 127.0.0.1:4000 t-1",
	})
	for _, tt := range []struct {
		q    store.AuditQuery
		want []audit.Entry
	}{
		{store.AuditQuery{After: 2}, got[2:]},
		{store.AuditQuery{Limit: 1}, got[:1]},
		{store.AuditQuery{Limit: 2, Newest: true}, got[2:]},
		{store.AuditQuery{After: 2, Newest: true}, got[2:]},
		{store.AuditQuery{Subject: "news@1"}, got[1:2]},
		{store.AuditQuery{Subject: "news@1", After: 2}, nil},
		{store.AuditQuery{Actor: "editor", Limit: 2}, got[:2]},
		{store.AuditQuery{Actor: "somebody"}, nil},
		{store.AuditQuery{Actor: "editor", Subject: "a"}, got[:1]},
	} {
		wantEqual(t, fmt.Sprintf("%+v", tt.q), entries(t, s, tt.q), tt.want)
	}
}

// Each entry is chained to the one before, also if what it says is odd.
func testAuditChain(t *testing.T, s Store) {
	ctx := t.Context()
	if h := checkChain(t, s); h != (audit.Head{Digest: audit.Start}) {
		t.Errorf("an empty log has the head %+v", h)
	}
	must[trainer.Job](t)(s.CreateJob(ctx, Job("a"), by("job.submit")))
	first := checkChain(t, s)
	for i, detail := range []string{"", "a\x00b", "bad \xff", "新闻", string(make([]byte, 2*audit.MaxText))} {
		c := by("job.note")
		c.Detail, c.By = detail, galley.Actor(detail)
		must[trainer.Job](t)(s.CreateJob(ctx, Job(fmt.Sprint("b", i)), c))
	}
	if h := checkChain(t, s, first); h.Entries != 6 {
		t.Errorf("%+v", h)
	}
}

// A change that is refused leaves no entry, and the chain as it was.
func testAuditIsAtomic(t *testing.T, s Store) {
	ctx := t.Context()
	j := must[trainer.Job](t)(s.CreateJob(ctx, Job("a"), by("job.submit")))
	before := checkChain(t, s)
	_, err := s.CreateJob(ctx, Job("a"), by("job.submit"))
	wantCode(t, err, galley.AlreadyExists)
	j.Generation = 7
	_, err = s.SaveJob(ctx, j, by("job.cancel"))
	wantCode(t, err, galley.Aborted)
	_, err = s.Promote(ctx, request("news", "prod", 1))
	wantCode(t, err, galley.NotFound)
	if after := checkChain(t, s); after != before {
		t.Errorf("%+v, was %+v", after, before)
	}
}

func testConcurrentAudit(t *testing.T, s Store) {
	const workers, each = 6, 10
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := range each {
				if _, err := s.CreateJob(context.Background(), Job(fmt.Sprint(worker, "-", i)), by("job.submit")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if h := checkChain(t, s); h.Entries != workers*each {
		t.Errorf("%d entries", h.Entries)
	}
}
