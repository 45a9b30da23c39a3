package onnx

import (
	"context"
	"math"

	"galley"
	"galley/dataset"
	"galley/distill"
	graph "galley/onnx"
	"galley/onnx/session"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/engine"
	"galley/trainer/objective"
)

// unlabelled is the label of an example that has none.
const unlabelled = -1

// A distillation is a classification whose rows have teachers' answers, too.
// Rows without a label have nothing else.
type distillation struct {
	*classification
	of      trainer.Distill
	targets *distill.Targets
	seed    uint64
	row     []float32 // of the targets
}

// distillation has the teachers answer what no file has yet.
func (d Driver) distillation(ctx context.Context, r engine.Request, s *splits, p problem, report func(engine.Event)) (problem, error) {
	c, ok := p.(*classification)
	if !ok {
		return nil, galley.Errorf(galley.InvalidArgument, "task", "%s cannot be distilled", r.Spec.Task).
			WithRemedy("use text-classification")
	}
	labelled := distill.Text{Rows: s.labelled, Digest: r.Data.Splits[dataset.Train].Digest}
	if r.Spec.Data.Fraction < 1 {
		labelled.Fraction, labelled.Seed = r.Spec.Data.Fraction, r.Spec.Recipe.Seed
	}
	texts := []distill.Text{labelled}
	if s.unlabelled != nil {
		texts = append(texts, distill.Text{Rows: s.unlabelled, Digest: r.Unlabelled.Digest})
	}
	targets, err := distill.Prepare(ctx, distill.Options{
		Teachers: r.Teachers, Texts: texts, Labels: c.labels, Temperature: r.Spec.Temperature, Hidden: r.Spec.HiddenLoss > 0,
		Cache: r.Cache, WorkDir: r.WorkDir, Opener: d.Opener, Threads: max(1, r.Spec.Resources.CPUs),
		Note: func(message string) { report(engine.Event{Kind: engine.Note, Message: message}) },
	})
	if err != nil {
		return nil, err
	}
	return &distillation{
		classification: c, of: r.Spec.Distill, targets: targets, seed: r.Spec.Recipe.Seed, row: make([]float32, len(c.labels)+targets.Hidden),
	}, nil
}

// Close closes the targets.
func (d *distillation) Close() error { return d.targets.Close() }

func (d *distillation) models() (training, validation *graph.Model, err error) {
	if _, validation, err = d.classification.models(); err != nil {
		return nil, nil, err
	}
	var match *objective.Match
	if d.targets.Hidden > 0 {
		match = &objective.Match{Target: d.targets.Hidden, Seed: d.seed}
		if match.State, err = distill.HiddenValue("the student", d.model, architecture.Logits); err != nil {
			return nil, nil, err
		}
	}
	training, err = objective.Distillation(d.model, d.recipe.BranchLoss, d.of.Temperature, match)
	return training, validation, err
}

// encode also takes rows without a label.
func (d *distillation) encode(row dataset.Row) (example, int, error) {
	if row.Label != "" {
		return d.classification.encode(row)
	}
	ids, info := d.tokenizer.Encode(nil, row.Text, d.length)
	return example{ids: ids, label: unlabelled, language: row.Language, truncated: info.Truncated}, len(ids), nil
}

// feeds divides the loss by the step's rows. The share of labels is divided by
// their weights, too, so that alpha 0 is the loss of kind Train; a row counts as
// much in whatever step it comes, and with however many unlabelled ones.
func (d *distillation) feeds(batches [][]example, draw draws) ([]feed, error) {
	rows, known, mass := 0, 0, 0.0
	for _, batch := range batches {
		rows += len(batch)
		for _, e := range batch {
			if e.label != unlabelled {
				known++
				mass += d.classes.Mass([]int{e.label})
			}
		}
	}
	soft := d.of.Alpha * d.of.Temperature * d.of.Temperature / float64(rows)
	hard := (1 - d.of.Alpha) * float64(known) / float64(rows)
	feeds := make([]feed, len(batches))
	for i, batch := range batches {
		f, err := pad(batch, d.tokenizer.Special(), d.in, d.recipe.TokenDropout, draw.rand(i))
		if err != nil {
			return nil, err
		}
		shape := []int64{int64(len(batch)), int64(len(d.labels))}
		targets, err := session.Zeros[float32](shape...)
		if err != nil {
			return nil, err
		}
		probabilities, err := session.Zeros[float32](shape...)
		if err != nil {
			return nil, err
		}
		hidden, err := session.Zeros[float32](int64(len(batch)), int64(d.targets.Hidden))
		if err != nil {
			return nil, err
		}
		entropy, err := d.fill(session.Data[float32](targets), session.Data[float32](probabilities), session.Data[float32](hidden), batch, hard, soft, mass)
		if err != nil {
			return nil, err
		}
		if d.targets.Hidden > 0 {
			weight, err := session.New([]float32{float32(d.of.HiddenLoss / float64(rows*d.targets.Hidden))})
			if err != nil {
				return nil, err
			}
			f.inputs[objective.HiddenTargets], f.inputs[objective.HiddenWeight] = hidden, weight
		}
		constant, err := session.New([]float32{float32(entropy)})
		if err != nil {
			return nil, err
		}
		f.inputs[objective.Targets], f.inputs[objective.SoftTargets], f.inputs[objective.SoftEntropy] = targets, probabilities, constant
		f.stream = draw.stream(i)
		feeds[i] = f
	}
	return feeds, nil
}

// fill writes a batch's targets, the hidden ones if there are any, and returns
// the weighed entropy of those that are soft.
func (d *distillation) fill(targets, probabilities, hidden []float32, batch []example, hard, soft, mass float64) (float64, error) {
	n, entropy := len(d.labels), 0.0
	for i, e := range batch {
		if e.label != unlabelled && hard > 0 {
			d.classes.Fill(targets[i*n:(i+1)*n], []int{e.label}, mass/hard)
		}
		if err := d.targets.Row(d.row, e.row); err != nil {
			return 0, err
		}
		copy(hidden[i*d.targets.Hidden:], d.row[n:])
		row := probabilities[i*n : (i+1)*n]
		copy(row, d.row)
		entropy += soft * distill.Entropy(row)
		for j := range row {
			row[j] = float32(soft * float64(row[j]))
		}
	}
	if math.IsNaN(entropy) {
		return 0, galley.Errorf(galley.DataLoss, "teachers", "an answer is not a probability")
	}
	return entropy, nil
}

// joined is labelled rows and, after them, others, whose labels are not told.
type joined struct{ labelled, others dataset.Rows }

func (j joined) Len() int { return j.labelled.Len() + j.others.Len() }

func (j joined) At(i int) (dataset.Row, error) {
	if n := j.labelled.Len(); i >= n {
		row, err := j.others.At(i - n)
		row.Label = ""
		return row, err
	}
	return j.labelled.At(i)
}
