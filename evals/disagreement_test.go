package evals

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"galley/dataset"
)

func TestDisagreements(t *testing.T) {
	rows, good, poor := fixture(300)
	line := 0
	each := func(yield func(dataset.Row, error) bool) {
		for i, row := range rows {
			line = i + 2
			if !yield(row, nil) {
				return
			}
		}
	}
	o := Options{
		Latency: -1, ShowTexts: true,
		Place:     func() string { return fmt.Sprintf("fresh.csv:%d", line) },
		Baselines: []Contender{{Name: "news@1", Predictor: poor, Version: &Contestant{Model: "sha256:aa"}}, {Name: "no version", Predictor: poor}},
	}
	r, err := Run(t.Context(), good, each, good.labels, o)
	if err != nil {
		t.Fatal(err)
	}
	b := r.Baselines[0]
	d := b.Disagreements
	if d.N != b.Pairing.OnlyA || len(d.OnlyModel) != shownOfKind || len(d.OnlyOther) != 0 || len(d.Neither) != 0 {
		t.Fatalf("%d of %+v disagree: %+v", d.N, b.Pairing, d)
	}
	for i, at := range d.OnlyModel {
		row := rows[at.Row-1]
		want := Disagreement{Row: at.Row, Place: fmt.Sprintf("fresh.csv:%d", at.Row+1), Label: row.Label, Answer: row.Label, Other: "culture", Text: row.Text}
		if at != want || i > 0 && d.OnlyModel[i-1].Row >= at.Row {
			t.Errorf("%+v, want %+v", at, want)
		}
	}
	if r.Baselines[1].Disagreements != nil || r.Baselines[1].Differences[MacroF1].Value <= 0 {
		t.Errorf("the baseline that is no version: %+v", r.Baselines[1])
	}
	if b.RowsPerSecond <= 0 || b.CPUSecondsPerThousand < 0 || r.Baselines[1].RowsPerSecond != 0 {
		t.Errorf("%v rows a second, and %v", b.RowsPerSecond, r.Baselines[1].RowsPerSecond)
	}
	kept, err := r.WithoutTexts().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(kept, []byte("text 1")) || d.OnlyModel[0].Text == "" {
		t.Errorf("texts are kept, or lost: %s", kept)
	}
}

// Each kind of disagreement goes to its list, and long texts are cut.
func TestDisputesKinds(t *testing.T) {
	d := newDisputes()
	labels := []string{"a", "b", "c"}
	for i, c := range []struct{ gold, own, other int }{{0, 0, 0}, {0, 0, 1}, {0, 1, 0}, {0, 1, 2}, {2, 1, 1}} {
		d.add(rowAt{number: i}, labels, c.gold, c.own, c.other)
	}
	got := d.list()
	if got.N != 3 || got.OnlyModel[0].Row != 2 || got.OnlyOther[0].Row != 3 || got.Neither[0].Row != 4 {
		t.Errorf("%+v", got)
	}
	if text := shown(dataset.Row{Text: strings.Repeat("报", 1000)}); len(text) > shownText+len("…") || !strings.HasSuffix(text, "…") {
		t.Errorf("%q", text)
	}
}
