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

// PerturbedBeside is how a version answers the changed texts that the model
// does, too.
type PerturbedBeside struct {
	Perturbed
	Difference Metric `json:"difference"` // accuracy of the model minus the version's on the changed texts, paired
}

// A disturbance is a perturbation of a batch's texts.
type disturbance struct {
	perturb.Perturbation
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

// change perturbs the texts of a batch.
func (d *disturbance) change(texts []string, seed uint64) {
	d.at, d.texts = d.at[:0], d.texts[:0]
	for i, text := range texts {
		if changed := d.Apply(text, seed); changed != text {
			d.at, d.texts = append(d.at, i), append(d.texts, changed)
		}
	}
}

// A shaken counts the answers of one model to texts under one perturbation.
type shaken struct {
	clean, right, changed int
	pairs                 Pairing
	now                   []bool // which answers of the batch are right

	beside Pairing // a is the model that is evaluated, b this one
}

func newShaken(n int) []*shaken {
	out := make([]*shaken, n)
	for i := range out {
		out[i] = &shaken{}
	}
	return out
}

// ask puts the changed texts of a batch to a model. gold and answers are those
// of the batch's rows.
func (s *shaken) ask(ctx context.Context, d *disturbance, p Predictor, name string, labels []string, gold, answers []int) error {
	s.now = s.now[:0]
	if len(d.texts) == 0 {
		return nil
	}
	out, err := ask(ctx, p, d.texts, name)
	if err != nil {
		return err
	}
	for k, i := range d.at {
		now, err := answer(out[k].Scores, labels)
		if err != nil {
			return err
		}
		before, after := answers[i] == gold[i], now == gold[i]
		s.now = append(s.now, after)
		s.pairs.Add(before, after)
		if before {
			s.clean++
		}
		if after {
			s.right++
		}
		if now != answers[i] {
			s.changed++
		}
	}
	return nil
}

// compare pairs the batch's answers with the evaluated model's.
func (s *shaken) compare(own *shaken) {
	for k, right := range s.now {
		s.beside.Add(own.now[k], right)
	}
}

func (s *shaken) result(d *disturbance) Perturbed {
	n := s.pairs.N
	return Perturbed{
		Name: d.Name, What: d.What, N: n,
		Accuracy: Wilson(s.right, n), Clean: Wilson(s.clean, n), Drop: s.pairs.Difference(), P: s.pairs.McNemar(), Changed: Wilson(s.changed, n),
	}
}
