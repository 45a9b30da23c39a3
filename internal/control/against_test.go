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

// Two versions are compared on request; production is one more, and answers
// once if it is the one that was asked for. Texts are not kept.
func TestEvaluateAgainst(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "test": lopsided(40)})
	good, worse := w.stubborn(t, 0, "news@1", "money", "sport"), w.stubborn(t, 1, "news@1", "money", "sport")
	ref := func(v registry.Version) galley.Ref { return galley.Ref{Name: v.Name, Version: v.Number} }
	e := Evaluation{Ref: ref(good), Dataset: "news", Split: dataset.Test, Against: ref(worse), ShowTexts: true}
	compare := func(e Evaluation) *evals.Report {
		t.Helper()
		report, kept, err := w.Evaluate(t.Context(), "ann", e, nil)
		if err != nil || len(report.Baselines) != 1 {
			t.Fatalf("%+v %v", report, err)
		}
		stored, err := w.Report(t.Context(), kept.Digest)
		if err != nil {
			t.Fatal(err)
		}
		d, plain := report.Baselines[0].Disagreements, stored.Baselines[0].Disagreements
		if d.N == 0 || d.OnlyModel[0].Text == "" || plain.OnlyModel[0].Text != "" || plain.OnlyModel[0].Row != d.OnlyModel[0].Row {
			t.Errorf("answered %+v, kept %+v", d, plain)
		}
		return report
	}
	report := compare(e)
	if b := report.Baselines[0]; b.Name != worse.Ref() || b.Differences[evals.Accuracy].Low <= 0 || report.Gate.Checks[0].Detail != "no other version is in production" {
		t.Errorf("%+v, gate %+v", b, report.Gate)
	}
	w.promote(t, Promotion{Ref: ref(worse)})
	if report = compare(e); !report.Gate.Passed || len(report.Gate.Checks) == 0 || report.Metrics[evals.Agreement].N != report.N {
		t.Errorf("production is not judged by the comparison: %+v", report.Gate)
	}

	other := w.stubborn(t, 0, "news@1", "money", "weather")
	for _, c := range []struct {
		against galley.Ref
		code    galley.Code
		says    string
	}{
		{ref(good), galley.InvalidArgument, "there is nothing to compare"},
		{ref(other), galley.FailedPrecondition, "has other labels"},
		{galley.Ref{Name: "none"}, galley.NotFound, "none"},
	} {
		e.Against = c.against
		if _, _, err := w.Evaluate(t.Context(), "ann", e, nil); galley.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("against %v: %v", c.against, err)
		}
	}
}
