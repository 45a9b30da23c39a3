package onnx

import (
	"context"
	"math/rand/v2"

	"galley/dataset"
	"galley/feature/text"
	graph "galley/onnx"
	"galley/onnx/session"
	"galley/task"
)

// A problem is a task as the training loop sees it.
type problem interface {
	// models returns the graph with the loss, and the graph that validation
	// runs, whose weights have the same names.
	models() (training, validation *graph.Model, err error)
	// encode turns a row into what a batch is made of.
	encode(row dataset.Row) (example, int, error)
	// feeds turns the batches of one optimizer step into inputs of the
	// training graph.
	feeds(batches [][]example, draw draws) ([]feed, error)
	// validate runs the validation graph over batches of the split and
	// returns metrics and a score: higher is better.
	validate(ctx context.Context, e *evaluator, batches func(yield func([]example, error) bool)) (metrics map[string]float64, score float64, err error)
	// remember returns what the last validation set beside the weights, and
	// recall sets it again, for the bundle.
	remember() map[string]float64
	recall(best map[string]float64)
	// bundle is the graph to publish, before the weights are put in.
	bundle() (*graph.Model, error)
}

// An example is an encoded row.
type example struct {
	row       int // its number
	ids       []int32
	label     int
	language  string
	truncated bool
}

// draws are the random numbers of one batch: the same for the same seed and
// place in the run, whatever came before.
type draws struct {
	seed uint64
	step int // optimizer step, from 0
}

// stream numbers the i-th batch of the step.
func (d draws) stream(i int) uint64 { return uint64(d.step)<<16 | uint64(i) }

func (d draws) rand(i int) *rand.Rand { return rand.New(rand.NewPCG(d.seed, d.stream(i))) }

func isSpecial(s text.Special, id int32) bool {
	return id == s.Pad || id == s.Unknown || id == s.Class || id == s.Separator || id == s.Mask
}

// pad lays the ids of a batch into [batch,length] with a mask, and drops a
// fraction of the tokens: [MASK] stands in for them. Special tokens stay.
func pad(batch []example, special text.Special, in task.Inputs, drop float64, r *rand.Rand) (feed, error) {
	length := 0
	for _, e := range batch {
		length = max(length, len(e.ids))
	}
	n := len(batch) * length
	hidden := special.Mask
	if hidden < 0 {
		hidden = special.Unknown
	}
	ids, mask := make([]int64, n), make([]int64, n)
	for i, e := range batch {
		row, m := ids[i*length:], mask[i*length:]
		for j, id := range e.ids {
			if drop > 0 && !isSpecial(special, id) && r.Float64() < drop {
				id = hidden
			}
			row[j], m[j] = int64(id), 1
		}
		for j := len(e.ids); j < length; j++ {
			row[j] = int64(special.Pad)
		}
	}
	f := feed{
		inputs:  map[string]*session.Tensor{},
		symbols: map[string]int64{"batch": int64(len(batch)), "length": int64(length)},
	}
	for name, data := range map[string][]int64{in.IDs: ids, in.Mask: mask} {
		t, err := session.New(data, int64(len(batch)), int64(length))
		if err != nil {
			return f, err
		}
		f.inputs[name] = t
	}
	if in.Types != "" {
		t, err := session.Zeros[int64](int64(len(batch)), int64(length))
		if err != nil {
			return f, err
		}
		f.inputs[in.Types] = t
	}
	return f, nil
}
