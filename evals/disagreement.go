package evals

import (
	"cmp"
	"slices"

	"galley"
	"galley/dataset"
)

// Bounds on the rows that a report shows of two models that disagree.
const (
	shownOfKind = 20 // rows of each kind
	shownText   = 300
)

// Disagreements are the rows that two models answer differently: how many,
// and an even sample of each kind.
type Disagreements struct {
	N         int            `json:"n"`
	OnlyModel []Disagreement `json:"only_model"` // the model alone is right
	OnlyOther []Disagreement `json:"only_other"` // the baseline alone is right
	Neither   []Disagreement `json:"neither"`    // both are wrong
}

// A Disagreement is a row that two models answer differently.
type Disagreement struct {
	Row    int    `json:"row"`             // from 1, in the order of the rows
	Place  string `json:"place,omitempty"` // in the file: "fresh.csv:17"
	Label  string `json:"label"`
	Answer string `json:"answer"`         // the model's
	Other  string `json:"other"`          // the baseline's
	Text   string `json:"text,omitempty"` // its beginning, if texts were asked for
}

// disputes collects disagreements as rows come by.
type disputes struct {
	n     int
	kinds [3]reservoir[Disagreement] // only the model right, only the other, neither
}

func newDisputes() disputes {
	var d disputes
	for i := range d.kinds {
		d.kinds[i] = newReservoir[Disagreement](shownOfKind, uint64(i)+2)
	}
	return d
}

// add takes a row that the two may answer differently.
func (d *disputes) add(at rowAt, labels []string, gold, own, other int) {
	if own == other {
		return
	}
	d.n++
	kind := 2
	switch gold {
	case own:
		kind = 0
	case other:
		kind = 1
	}
	d.kinds[kind].offer(Disagreement{Row: at.number + 1, Place: at.place, Label: labels[gold], Answer: labels[own], Other: labels[other], Text: at.text})
}

// list returns what was collected, in the order of the rows.
func (d *disputes) list() *Disagreements {
	sorted := func(r reservoir[Disagreement]) []Disagreement {
		return slices.SortedFunc(slices.Values(r.kept), func(a, b Disagreement) int { return cmp.Compare(a.Row, b.Row) })
	}
	out := &Disagreements{N: d.n, OnlyModel: sorted(d.kinds[0]), OnlyOther: sorted(d.kinds[1]), Neither: sorted(d.kinds[2])}
	for _, rows := range []*[]Disagreement{&out.OnlyModel, &out.OnlyOther, &out.Neither} {
		if *rows == nil {
			*rows = []Disagreement{}
		}
	}
	return out
}

// A rowAt says which row it is. Its text is empty unless it is to be shown.
type rowAt struct {
	number int // from 0
	place  string
	text   string
}

// shown is the part of a row's text that a report shows.
func shown(row dataset.Row) string { return galley.Clip(row.Text, shownText) }

// WithoutTexts returns the report without the texts of rows, as it is kept.
func (r *Report) WithoutTexts() *Report {
	out := *r
	out.Baselines = slices.Clone(r.Baselines)
	for i, b := range out.Baselines {
		if b.Disagreements == nil {
			continue
		}
		d := *b.Disagreements
		for _, rows := range []*[]Disagreement{&d.OnlyModel, &d.OnlyOther, &d.Neither} {
			*rows = slices.Clone(*rows)
			for k := range *rows {
				(*rows)[k].Text = ""
			}
		}
		out.Baselines[i].Disagreements = &d
	}
	return &out
}
