package main

import (
	"encoding/json"
	"testing"

	"galley/federation"
)

// A partner whose rows all have one label, and one with fewer rows than a batch,
// take part as others do: the round closes with their updates, none of which is
// much longer than an ordinary one, and its model is no worse than the one
// before.
func TestPartnersWithUnevenRows(t *testing.T) {
	if testing.Short() {
		t.Skip("trains at three partners")
	}
	runtimeLib := runtimePath(t)
	if runtimeLib == "" {
		t.Skip("ONNX Runtime is not here")
	}
	f := overhearFederation(t, runtimeLib)
	f.join(&overheardPartner{name: "ordinary", rows: headlineRows("ordinary", "the team", 24)})
	var sport []headlineRow
	for _, r := range headlineRows("one-label", "the team", 48) {
		if r.label == "sport" {
			sport = append(sport, r)
		}
	}
	f.join(&overheardPartner{name: "one-label", rows: sport})
	f.join(&overheardPartner{name: "two-rows", rows: headlineRows("two-rows", "the team", 2)})
	f.train("{epochs: 1, batch_size: 8, class_weights: {mode: balanced}}")
	var shown struct{ Record federation.Round }
	if err := json.Unmarshal([]byte(f.must(nil, "federation", "round", f.job, "1")), &shown); err != nil {
		t.Fatal(err)
	}
	round := shown.Record
	ordinary, _ := round.Entry("ordinary")
	for _, p := range f.partners {
		e, ok := round.Entry(p.name)
		if !ok || e.Standing != federation.Accepted || !(e.Norm > 0 && e.Norm < 4*ordinary.Norm) {
			t.Errorf("%s is %s with a norm of %g; an ordinary one has %g", p.name, e.Standing, e.Norm, ordinary.Norm)
		}
	}
	loss := func(ref string) float64 {
		var v struct{ Metrics map[string]float64 }
		if err := json.Unmarshal([]byte(f.must(nil, "models", "show", ref)), &v); err != nil || v.Metrics["loss"] == 0 {
			t.Fatalf("%s: %+v, %v", ref, v, err)
		}
		return v.Metrics["loss"]
	}
	if before, after := loss("news@1"), loss("joint-topics@1"); !(after < before+.1) {
		t.Errorf("the loss was %g, and is %g", before, after)
	}
}
