package storetest

import (
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/evals"
	"galley/internal/audit"
	"galley/internal/store"
	"galley/registry"
	"galley/trainer"
)

var stamp = registry.Stamp{By: "editor", At: noon}

func testDelete(t *testing.T, s Store) {
	ctx := t.Context()
	one, two := register(t, s, Version("news", 1)), register(t, s, Version("news", 2))
	report := &evals.Report{Ref: "news@2", N: 10, Metrics: map[string]evals.Metric{evals.Accuracy: evals.Wilson(9, 10)}}
	ref := must[registry.ReportRef](t)(s.AddReport(ctx, "news", 2, report, stamp))

	gone := must[registry.Version](t)(s.DeleteVersion(ctx, "news", 2, stamp))
	wantEqual(t, "deleted", gone, two)
	_, err := s.Version(ctx, "news", 2)
	wantCode(t, err, galley.NotFound)
	_, err = s.Find(ctx, two.Digest)
	wantCode(t, err, galley.NotFound)
	_, err = s.Report(ctx, ref.Digest)
	wantCode(t, err, galley.NotFound)
	_, err = s.DeleteVersion(ctx, "news", 2, stamp)
	wantCode(t, err, galley.NotFound)
	if m := must[registry.Model](t)(s.Model(ctx, "news")); len(m.Versions) != 1 || m.Newest() != 1 {
		t.Errorf("%+v", m)
	}
	audit := must[[]audit.Entry](t)(s.Audit(ctx, store.AuditQuery{}))
	if e := audit[len(audit)-1]; e.Actor != "editor" || e.Action != "version.delete" || e.Subject != "news@2" || e.Detail != string(two.Digest) {
		t.Errorf("%+v", e)
	}
	// A number names one version for good, also when the same comes again.
	if again := register(t, s, Version("news", 2)); again.Number != 3 || again.Digest != two.Digest {
		t.Errorf("%+v", again)
	}
	must[registry.Version](t)(s.DeleteVersion(ctx, "news", one.Number, stamp))
	must[registry.Version](t)(s.DeleteVersion(ctx, "news", 3, stamp))
	_, err = s.Model(ctx, "news")
	wantCode(t, err, galley.NotFound)
	if v := register(t, s, Version("news", 4)); v.Number != 4 {
		t.Errorf("%+v", v)
	}
}

// child returns a version that came from another.
func child(model string, seed int, of registry.Version) registry.Version {
	v := Version(model, seed)
	v.Lineage.Parent, v.Lineage.ParentDigest = of.Ref(), of.Digest
	return v
}

func testDeleteRefused(t *testing.T, s Store) {
	ctx := t.Context()
	one := register(t, s, Version("news", 1))
	refused := func(why string) {
		t.Helper()
		_, err := s.DeleteVersion(ctx, "news", 1, stamp)
		wantCode(t, err, galley.FailedPrecondition)
		if message := galley.AsError(err).Message; message != "cannot be deleted: "+why {
			t.Errorf("refused because %q, want %q", message, why)
		}
		wantEqual(t, "version", must[registry.Version](t)(s.Version(ctx, "news", 1)), one)
	}
	promote(t, s, "news", "prod", 1)
	refused("the alias prod points at it")
	register(t, s, Version("news", 2))
	promote(t, s, "news", "prod", 2)
	refused("a rollback of prod would return to it")
	register(t, s, Version("news", 3))
	promote(t, s, "news", "prod", 3)

	job := Job("a")
	job.Parent = one.Digest
	job = must[trainer.Job](t)(s.CreateJob(ctx, job, by("")))
	refused("the job a goes on from it")
	job.Phase = trainer.Succeeded
	must[trainer.Job](t)(s.SaveJob(ctx, job, by("")))

	student := Job("b")
	student.Teachers = []trainer.Teacher{{Ref: "else@1", Digest: Digest("else")}, {Ref: one.Ref(), Digest: one.Digest}}
	student = must[trainer.Job](t)(s.CreateJob(ctx, student, by("")))
	refused("the job b learns from it")
	student.Phase = trainer.Failed
	must[trainer.Job](t)(s.SaveJob(ctx, student, by("")))

	distilled := Version("small", 1)
	distilled.Lineage.DistilledFrom = []registry.Teacher{{Ref: "else@1", Digest: Digest("else")}, {Ref: one.Ref(), Digest: one.Digest}}
	register(t, s, distilled)
	refused("small@1 was distilled from it")
	register(t, s, child("desk", 1, one))
	refused("desk@1 was trained from it")
	// The same model elsewhere is parent enough.
	copied := Version("copy", 1)
	copied.Artifacts = one.Artifacts
	if stored := register(t, s, copied); stored.Digest != one.Digest {
		t.Fatalf("%+v", stored)
	}
	must[registry.Version](t)(s.DeleteVersion(ctx, "news", 1, stamp))
	if c := must[registry.Change](t)(s.Rollback(ctx, request("news", "prod", 0))); c.To != 2 {
		t.Errorf("%+v", c)
	}
	_, err := s.Rollback(ctx, request("news", "prod", 0))
	wantCode(t, err, galley.FailedPrecondition)
}

// Whatever is deleted, no rollback leads to a version that is gone, and each
// moves the alias.
func testDeleteAliasPasts(t *testing.T, s Store) {
	ctx := context.Background()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		model := fmt.Sprint("m", run)
		const versions = 5
		for i := range versions {
			if _, _, err := s.Register(ctx, Version(model, i)); err != nil {
				t.Fatal(err)
			}
		}
		for _, target := range rapid.SliceOfN(rapid.IntRange(1, versions), 1, 10).Draw(t, "promotions") {
			if _, err := s.Promote(ctx, request(model, "trial", target)); err != nil {
				t.Fatal(err)
			}
		}
		for _, number := range rapid.SliceOfN(rapid.IntRange(1, versions), 0, 4).Draw(t, "deletions") {
			if _, err := s.DeleteVersion(ctx, model, number, stamp); err != nil &&
				galley.CodeOf(err) != galley.FailedPrecondition && galley.CodeOf(err) != galley.NotFound {
				t.Fatal(err)
			}
		}
		for {
			c, err := s.Rollback(ctx, request(model, "trial", 0))
			if galley.CodeOf(err) == galley.FailedPrecondition {
				return
			}
			if err != nil || c.From == c.To {
				t.Fatalf("%+v %v", c, err)
			}
			if _, err := s.Version(ctx, model, c.To); err != nil {
				t.Fatal(err)
			}
		}
	})
}
