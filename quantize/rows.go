package quantize

import (
	"context"
	"fmt"
	"slices"

	"galley"
	"galley/dataset"
	"galley/onnx/session"
)

// rowSeed draws the rows to calibrate with.
const rowSeed = 1

// choose draws the rows of the train split that the job calibrates with, in
// the order of the file.
func (a *attempt) choose() error {
	n := min(a.spec.Calibration.Rows, a.train.Len())
	p := dataset.NewPermutation(rowSeed, 0, a.train.Len())
	a.order = make([]int, n)
	for i := range a.order {
		a.order[i] = p.At(i)
	}
	slices.Sort(a.order)
	if a.options().Method != Static {
		return nil
	}
	return a.severalClasses()
}

// severalClasses checks that calibration sees more than one label: ranges of
// one class alone cut off what the others need.
func (a *attempt) severalClasses() error {
	first := ""
	for i, at := range a.order {
		row, err := a.train.At(at)
		if err != nil {
			return err
		}
		if i > 0 && row.Label != first {
			return nil
		}
		first = row.Label
	}
	drawn := fmt.Sprintf("all %d rows that were drawn from %s have", len(a.order), a.data.Name)
	if len(a.order) == 1 {
		drawn = fmt.Sprintf("the only row that was drawn from %s has", a.data.Name)
	}
	return galley.Errorf(galley.FailedPrecondition, "calibration", "%s the label %q", drawn, galley.Clip(first, 80)).
		WithRemedy("use data with all labels, or raise calibration.rows")
}

// spread chooses at most n of some rows, evenly.
func spread(order []int, n int) []int {
	if len(order) <= n {
		return order
	}
	out := make([]int, n)
	for i := range out {
		out[i] = order[i*len(order)/n]
	}
	return out
}

// calibrate finds the ranges of activations.
func (a *attempt) calibrate(ctx context.Context, sites []Site, o Options) (map[string]Range, error) {
	c := a.spec.Calibration
	return Calibrate(ctx, a.opener, a.model, Activations(a.model, sites), a.counted(a.order, "calibrating"),
		Calibration{Search: Search(c.Ranges), Percentile: c.Percentile, Threads: a.threads}, o)
}

// counted are batches of rows that count as progress.
func (a *attempt) counted(order []int, what string) Batches {
	batches := Texts(a.classifier.TextEncoder, a.train, order)
	ids := a.bundle.Config.Inputs.IDs
	return func(yield func(map[string]*session.Tensor, error) bool) {
		for batch, err := range batches {
			if !yield(batch, err) {
				return
			}
			if err == nil {
				a.steps.add(int(batch[ids].Shape[0]), what)
			}
		}
	}
}
