package control

import (
	"strings"
	"testing"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/internal/ort/orttest"
	"galley/registry"
)

// A gate that names its rows compares on them, whatever the one who promotes
// would rather have.
func TestGateNamesItsRows(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "test": lopsided(40)})
	w.add(t, "kind", map[string]string{"train": rows, "valid": strings.ReplaceAll(lopsided(40), "money", "sport")})
	good, worse := w.stubborn(t, 0, "news@1", "money", "sport"), w.stubborn(t, 1, "news@1", "money", "sport")
	ref := func(v registry.Version) galley.Ref { return galley.Ref{Name: v.Name, Version: v.Number} }
	w.promote(t, Promotion{Ref: ref(good)})
	if _, refusal := w.promote(t, Promotion{Ref: ref(worse), Dataset: "kind", Split: dataset.Valid}); refusal != nil {
		t.Fatalf("on rows that are kind to it: %v", refusal)
	}
	w.promote(t, Promotion{Ref: ref(good), Force: true, Reason: "back"})

	none := 0.
	gate := &evals.Gate{Data: "news", Split: dataset.Test, Rules: []evals.Rule{{Metric: evals.Accuracy, MaxWorse: &none}}}
	if _, err := w.SetGate(t.Context(), "ann", "desk", "", gate); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Promote(t.Context(), "ann", Promotion{Ref: ref(worse), Alias: registry.Prod, Dataset: "kind", Split: dataset.Valid}); galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), "compares on news alone") {
		t.Errorf("rows of one's own: %v", err)
	}
	if _, refusal := w.promote(t, Promotion{Ref: ref(worse)}); refusal == nil {
		t.Error("the gate's rows were not asked")
	}
	if _, err := w.SetGate(t.Context(), "ann", "desk", "", &evals.Gate{Data: "absent"}); galley.CodeOf(err) != galley.NotFound {
		t.Errorf("rows that are not there: %v", err)
	}
}
