package quantize

import (
	"context"
	"iter"
	"runtime/debug"

	"galley"
	"galley/onnx"
	"galley/onnx/session"
)

// Batches are the inputs of a graph, run after run. A batch's tensors may be
// reused once the next is asked for.
type Batches = iter.Seq2[map[string]*session.Tensor, error]

// Calibration says how ranges are found.
type Calibration struct {
	Search     Search
	Percentile float64 // of Percentile: the share within; 99.99 if 0
	Threads    int
}

// Calibrate runs batches through a graph and returns the ranges of the named
// values for the options' grid. It holds one batch of their values at a time, or
// none for MinMax. Where that meets a number that is not finite, the batches run
// again, to say how many there are.
func Calibrate(ctx context.Context, opener session.Opener, m *onnx.Model, values []string, batches Batches, c Calibration, o Options) (map[string]Range, error) {
	if c.Search == MinMax {
		ranges, ok, err := extremes(ctx, opener, m, values, batches, c.Threads)
		if err != nil || ok {
			return ranges, err
		}
	}
	histograms, err := observe(ctx, opener, m, values, batches, c)
	if err != nil {
		return nil, err
	}
	if c.Percentile == 0 {
		c.Percentile = 99.99
	}
	out := make(map[string]Range, len(values))
	for _, name := range values {
		h := histograms[name]
		if h.NotFinite > 0 {
			return nil, galley.Errorf(galley.FailedPrecondition, "value "+galley.Clip(name, 80), "has %d numbers that are not finite on the calibration rows", h.NotFinite).
				WithRemedy("the model is damaged or overflows: evaluate it first, or use method: weight-only")
		}
		if out[name], err = c.Search.Choose(h, c.Percentile, o.activationGrid(), o.SymmetricActivations); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func observe(ctx context.Context, opener session.Opener, m *onnx.Model, values []string, batches Batches, c Calibration) (map[string]*Histogram, error) {
	histograms := make(map[string]*Histogram, len(values))
	inputs := make(map[string]bool, len(m.Graph.Inputs))
	for _, v := range m.Graph.Inputs {
		inputs[v.Name] = true
	}
	var computed []string // what the session gives; inputs are at hand
	for _, name := range values {
		histograms[name] = NewHistogram(c.Search.binned())
		if !inputs[name] {
			computed = append(computed, name)
		}
	}
	s, err := openFor(ctx, opener, m, computed, c.Threads)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := eachRun(ctx, s, batches, computed, func(batch, out map[string]*session.Tensor) error {
		for _, name := range values {
			t := out[name]
			if inputs[name] {
				t = batch[name]
			}
			data := session.Data[float32](t)
			if data == nil {
				return galley.Errorf(galley.FailedPrecondition, "value "+galley.Clip(name, 80), "is not float32 and has no range to find").
					WithRemedy("export the model with float32 values, or use method: weight-only")
			}
			histograms[name].Add(data)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return histograms, nil
}

// eachRun runs batches, which must not be none, and hands each with what it
// gives to see.
func eachRun(ctx context.Context, s session.Session, batches Batches, outputs []string, see func(batch, out map[string]*session.Tensor) error) error {
	runs := 0
	for batch, err := range batches {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		runs++
		out, err := s.Run(ctx, batch, outputs...)
		if err != nil {
			return err
		}
		err = see(batch, out)
		for _, t := range out {
			t.Close()
		}
		if err != nil {
			return err
		}
	}
	if runs == 0 {
		return galley.Errorf(galley.FailedPrecondition, "calibration", "there are no rows to calibrate with").
			WithRemedy("choose a dataset whose train split has rows")
	}
	return nil
}

// openFor opens a graph for some of its values alone: nothing else is
// computed.
func openFor(ctx context.Context, opener session.Opener, m *onnx.Model, values []string, threads int) (session.Session, error) {
	watched := m.Clone()
	watched.Graph.Outputs = nil
	for _, name := range values {
		watched.Graph.Outputs = append(watched.Graph.Outputs, onnx.Value{Name: name, Type: onnx.Float})
	}
	onnx.RemoveUnused(watched.Graph)
	return open(ctx, opener, watched, threads, "calibration")
}

func open(ctx context.Context, opener session.Opener, m *onnx.Model, threads int, label string) (session.Session, error) {
	// A graph's bytes are large beside all else that is held here. What was read
	// before, and then these bytes, would stay until the next collection.
	debug.FreeOSMemory()
	defer debug.FreeOSMemory()
	data, err := onnx.Marshal(m)
	if err != nil {
		return nil, err
	}
	return opener.Open(ctx, data, session.Options{Threads: threads, NoMemoryPattern: true, Label: label})
}
