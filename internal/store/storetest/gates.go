package storetest

import (
	"encoding/json"
	"testing"

	"galley"
	"galley/evals"
	"galley/internal/audit"
	"galley/internal/store"
)

// ruled is a gate with a bound on accuracy.
func ruled(least float64) *evals.Gate {
	return &evals.Gate{Data: "news@1", Rules: []evals.Rule{{Metric: evals.Accuracy, Slice: "language=zh", Min: &least}}}
}

// wantGate holds an alias' gate to what it should be; nil is none of its own.
func wantGate(t testing.TB, s Store, model, alias string, want *evals.Gate) {
	t.Helper()
	got, ok, err := s.Gate(t.Context(), model, alias)
	if err != nil || ok != (want != nil) {
		t.Errorf("%s:%s: %+v, %v, %v", model, alias, got, ok, err)
		return
	}
	if want == nil {
		return
	}
	g, w := must[[]byte](t)(json.Marshal(got)), must[[]byte](t)(json.Marshal(want))
	wantEqual(t, model+":"+alias, string(g), string(w))
}

func testGates(t *testing.T, s Store) {
	ctx := t.Context()
	wantCode(t, s.SetGate(ctx, "news", "prod", ruled(0.8), stamp), galley.NotFound)
	wantGate(t, s, "news", "prod", nil)
	register(t, s, Version("news", 1))
	register(t, s, Version("weather", 2))
	wantGate(t, s, "news", "prod", nil)
	for _, g := range []*evals.Gate{ruled(0.8), ruled(0.9)} { // the second in place of the first
		if err := s.SetGate(ctx, "news", "prod", g, stamp); err != nil {
			t.Fatal(err)
		}
		wantGate(t, s, "news", "prod", g)
	}
	if err := s.SetGate(ctx, "news", "shadow", ruled(0.5), stamp); err != nil {
		t.Fatal(err)
	}
	wantGate(t, s, "news", "prod", ruled(0.9)) // each alias has its own
	wantGate(t, s, "weather", "prod", nil)     // and each model
	if err := s.SetGate(ctx, "news", "prod", nil, stamp); err != nil {
		t.Fatal(err)
	}
	wantGate(t, s, "news", "prod", nil)
	wantGate(t, s, "news", "shadow", ruled(0.5))
	// One that there is not can be taken away.
	if err := s.SetGate(ctx, "weather", "prod", nil, stamp); err != nil {
		t.Error(err)
	}
	// A gate outlives the versions that it was set over.
	if _, err := s.DeleteVersion(ctx, "news", 1, stamp); err != nil {
		t.Fatal(err)
	}
	wantGate(t, s, "news", "shadow", ruled(0.5))

	var set []audit.Entry
	for _, e := range must[[]audit.Entry](t)(s.Audit(ctx, store.AuditQuery{})) {
		if e.Action == "gate.set" {
			set = append(set, e)
		}
	}
	if len(set) != 5 || set[0].Actor != "editor" || set[0].Subject != "news:prod" || set[0].Detail == set[1].Detail || set[2].Subject != "news:shadow" || set[3].Detail != "galley's own" {
		t.Errorf("%+v", set)
	}
}
