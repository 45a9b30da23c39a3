package evals

import (
	"context"

	"galley/evals/perturb"
)

// Robustness is how a model answers texts that were changed without changing
// what they are about.
type Robustness struct {
	Seed          uint32      `json:"seed"` // of what was changed
	Perturbations []Perturbed `json:"perturbations"`
}

// Perturbed is what became of the rows whose text a perturbation changes. The
// others say nothing of it, and do not count.
type Perturbed struct {
	Name     string  `json:"name"` // "typos.swap"
	What     string  `json:"what"`
	N        int     `json:"n"`        // rows that it changes
	Accuracy Metric  `json:"accuracy"` // on the changed texts
	Clean    Metric  `json:"clean"`    // accuracy on the same rows as they are
	Drop     Metric  `json:"drop"`     // by how much accuracy falls: clean minus changed, paired
	P        float64 `json:"p"`        // exact McNemar test
	Changed  Metric  `json:"changed"`  // share of answers that are others
}

// A disturbance counts the answers to texts under one perturbation.
type disturbance struct {
	perturb.Perturbation
	clean, right, changed int
	pairs                 Pairing

	at    []int // rows of the batch that it changes
	texts []string
}

func newDisturbances() []*disturbance {
	var out []*disturbance
	for _, p := range perturb.All() {
		out = append(out, &disturbance{Perturbation: p})
	}
	return out
}

// ask puts the changed texts of a batch to a model. gold and answers are those
// of the batch's rows.
func (d *disturbance) ask(ctx context.Context, p Predictor, seed uint64, labels, texts []string, gold, answers []int) error {
	d.at, d.texts = d.at[:0], d.texts[:0]
	for i, text := range texts {
		if changed := d.Apply(text, seed); changed != text {
			d.at, d.texts = append(d.at, i), append(d.texts, changed)
		}
	}
	if len(d.texts) == 0 {
		return nil
	}
	out, err := ask(ctx, p, d.texts, "the model")
	if err != nil {
		return err
	}
	for k, i := range d.at {
		now, err := answer(out[k].Scores, labels)
		if err != nil {
			return err
		}
		before, after := answers[i] == gold[i], now == gold[i]
		d.pairs.Add(before, after)
		if before {
			d.clean++
		}
		if after {
			d.right++
		}
		if now != answers[i] {
			d.changed++
		}
	}
	return nil
}

func (d *disturbance) result() Perturbed {
	n := d.pairs.N
	return Perturbed{
		Name: d.Name, What: d.What, N: n,
		Accuracy: Wilson(d.right, n), Clean: Wilson(d.clean, n), Drop: d.pairs.Difference(), P: d.pairs.McNemar(), Changed: Wilson(d.changed, n),
	}
}
