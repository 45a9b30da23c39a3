package storetest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"galley"
	"galley/dataset"
	"galley/internal/store"
	"galley/trainer"
)

// references returns what a store says is named.
func references(t testing.TB, s Store) map[galley.Digest]bool {
	t.Helper()
	named := map[galley.Digest]bool{}
	if err := s.References(context.Background(), func(d galley.Digest) { named[d] = true }); err != nil {
		t.Fatal(err)
	}
	return named
}

// Whatever still needs a blob names it; what does not any more, does not.
func testReferences(t *testing.T, s Store) {
	ctx := t.Context()
	wants := func(what string, want bool, digests ...galley.Digest) {
		t.Helper()
		named := references(t, s)
		for _, d := range digests {
			if named[d] != want {
				t.Errorf("%s: named %v", what, named[d])
			}
		}
	}
	if named := references(t, s); len(named) != 0 {
		t.Errorf("an empty store names %v", named)
	}

	m := Manifest("headlines", 1)
	if _, _, err := s.AddDataset(ctx, m, by("data.add")); err != nil {
		t.Fatal(err)
	}
	wants("records", true, m.Splits[dataset.Train].Digest)

	v := Version("news", 1)
	v.Lineage.ParentDigest = Digest("uploaded parent")
	v = register(t, s, v)
	wants("version", true, v.Artifacts[0].Digest, v.Artifacts[1].Digest, v.Lineage.ParentDigest)
	other := register(t, s, Version("news", 2))
	if _, err := s.DeleteVersion(ctx, "news", 1, stamp); err != nil {
		t.Fatal(err)
	}
	wants("deleted version", false, v.Artifacts[0].Digest, v.Lineage.ParentDigest)
	wants("what it shared", true, other.Artifacts[1].Digest, v.Artifacts[1].Digest)

	job := Job("a")
	job.Parent = Digest("job's parent")
	job = must[trainer.Job](t)(s.CreateJob(ctx, job, by("job.submit")))
	wants("queued job", true, job.Parent)
	for phase, want := range map[trainer.Phase]bool{trainer.Running: true, trainer.Failed: true, trainer.Cancelled: true, trainer.Succeeded: false} {
		job.Phase = phase
		job = must[trainer.Job](t)(s.SaveJob(ctx, job, by("")))
		wants(string(phase)+" job", want, job.Parent)
	}

	staged := Digest("staged")
	payload := must[[]byte](t)(json.Marshal(map[string]any{"staged": []galley.Digest{staged}}))
	c := store.Commit{At: noon, Effects: []store.Effect{{Kind: "publish", Payload: payload}}}
	must[trainer.Job](t)(s.SaveJob(ctx, job, c))
	wants("pending effect", true, staged)
	e := must[[]store.Effect](t)(s.PendingEffects(ctx, 1))[0]
	if err := s.EffectDone(ctx, e.Aggregate, e.Sequence); err != nil {
		t.Fatal(err)
	}
	wants("effect that is done", false, staged)

	upload, again := Digest("upload"), Digest("upload again")
	for _, d := range []galley.Digest{upload, again} {
		if err := s.AddUpload(ctx, d, noon); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddUpload(ctx, again, noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	wants("upload", true, upload, again)
	if err := s.ForgetUploads(ctx, noon.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	wants("forgotten upload", false, upload)
	wants("renewed upload", true, again)
}
