package control

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/blob"
	"galley/internal/ort/orttest"
	"galley/internal/store"
	"galley/onnx"
	"galley/trainer"
)

// newFederationWorld is a home with the data and the version that federations
// begin with.
func newFederationWorld(t *testing.T) *world {
	t.Helper()
	w, err := openWith(t.TempDir(), orttest.Opener(t), 1, blob.Options{}, func(o *Options) { o.Gather, o.Patience = 50*time.Millisecond, 5*time.Millisecond })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	w.forFederations(t)
	return w
}

func (w *world) forFederations(t *testing.T) {
	t.Helper()
	w.add(t, "news", map[string]string{"train": rows, "valid": rows, "test": rows})
	if j := w.wait(t, w.submit(t, jobFile("topic", "text-classification", "recipe: {epochs: 1}\n")).ID); j.Phase != trainer.Succeeded {
		t.Fatalf("%+v %v", j, j.Error)
	}
}

// graphWeights are the weights of a version that partners train.
func (w *world) graphWeights(t *testing.T, ref string) []float32 {
	t.Helper()
	m, err := onnx.ReadFile(w.blobs.Path(w.modelDigest(t, ref)), onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	values, ok := m.Graph.Initializer("weights").Floats()
	if !ok {
		t.Fatal("no weights")
	}
	return values
}

func near(t *testing.T, got, want []float32) {
	t.Helper()
	for i := range want {
		if len(got) != len(want) || math.Abs(float64(got[i]-want[i])) > 1e-6 {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

// Three partners train a model together: it is a version as any other, whose
// lineage says whose it is.
func TestFederationToTheEnd(t *testing.T) {
	w := newFederationWorld(t)
	a, b, c := newAgent(t, w.Control, "courier", 100), newAgent(t, w.Control, "gazette", 300), newAgent(t, w.Control, "herald", 100)
	start(t, a, b, c)
	j := w.submit(t, []byte(federationFile))
	if j.Phase != trainer.Running || j.Progress.Steps != 3 {
		t.Errorf("%+v", j)
	}
	j = w.wait(t, j.ID)
	if j.Phase != trainer.Succeeded || j.Versions[0] != "joint@1" || j.Progress.Step != 3 {
		t.Fatalf("%+v %v", j, j.Error)
	}
	made := checkRounds(t, w.Control, j.ID, w.graphWeights(t, "topic@1"))
	near(t, w.graphWeights(t, "joint@1"), made)

	v, aliases, err := w.Version(t.Context(), galley.Ref{Name: "joint"})
	if err != nil || !slices.Contains(aliases, Candidate) || len(v.Reports) != 2 || v.Metrics["loss"] != 0.125 || v.Lineage.Parent != "topic@1" {
		t.Errorf("%+v %v %v", v, aliases, err)
	}
	l := v.Lineage.Federation
	if l == nil || l.Run != j.ID || l.Name != "topics" || len(l.Rounds) != 3 || len(l.Partners) != 3 || !l.SingleUpdatesSeen {
		t.Fatalf("%+v", l)
	}
	if p := l.Partners[1]; p.Name != "gazette" || p.Rounds != 3 || p.Agreement != b.Agreement.Digest() {
		t.Errorf("%+v", p)
	}
	for i, r := range l.Rounds {
		record, digest, err := w.Round(t.Context(), j.ID, r.Round, 0)
		if err != nil || digest != r.Record || r.Round != i+1 || len(record.Parts()) != 3 || !record.SingleUpdatesSeen {
			t.Errorf("%+v %s %v", record, digest, err)
		}
	}
	kept, err := w.Agreement(t.Context(), l.Partners[0].Agreement)
	if err != nil || kept.Partner != "courier" || string(kept.File) != string(agreementFile("courier", "")) {
		t.Errorf("%+v %v", kept, err)
	}
	tree, err := w.Lineage(t.Context(), galley.Ref{Name: "joint"})
	if err != nil || tree.Federation == nil || tree.Parent.Ref != "topic@1" {
		t.Errorf("%+v %v", tree, err)
	}
	log := w.log(t, j.ID)
	for _, want := range []string{"round 1: 3 of 3 partners, loss 1.0000", "round 3: 3 of 3 partners", "published as joint@1"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	var said []string
	entries, err := w.store.Audit(t.Context(), store.AuditQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Action, "federation.") || strings.HasPrefix(e.Action, "partner.") {
			said = append(said, string(e.Actor)+" "+e.Action)
		}
	}
	want := []string{
		"ann partner.enrol", "partner:courier federation.join", "ann partner.enrol", "partner:gazette federation.join", "ann partner.enrol", "partner:herald federation.join",
		"galley federation.round", "galley federation.round", "galley federation.round", "galley federation.end",
	}
	if !slices.Equal(said, want) {
		t.Errorf("%q", said)
	}
	// Nothing of it is left but what the version is made of.
	w.sweep(t.Context())
	for _, r := range l.Rounds {
		record, _, err := w.Round(t.Context(), j.ID, r.Round, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range record.Parts() {
			if _, err := w.blobs.Stat(p.Update); galley.CodeOf(err) != galley.NotFound {
				t.Errorf("the update of %s is kept: %v", p.Partner, err)
			}
		}
		if _, err := w.blobs.Stat(record.Aggregate); galley.CodeOf(err) != galley.NotFound {
			t.Errorf("round %d's weights are kept: %v", r.Round, err)
		}
	}
	w.checkNamed(t)
	if f, err := w.Federation(t.Context(), j.ID); err != nil || f.State != federation.Succeeded || len(f.Connected) != 3 {
		t.Errorf("%+v %v", f, err)
	}
	if _, err := w.Delete(t.Context(), "ann", galley.Ref{Name: "topic", Version: 1}); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Errorf("the version that it came from is deleted: %v", err)
	}
}
