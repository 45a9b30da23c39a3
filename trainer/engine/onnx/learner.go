package onnx

import (
	"context"
	"fmt"
	"math"
	"slices"

	"galley"
	"galley/internal/kernel"
	graph "galley/onnx"
	"galley/onnx/grad"
	"galley/onnx/session"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// A learner holds a model in training: its parameters, the session that
// computes loss and gradients into their memory, and the optimizer.
type learner struct {
	params  *parameters
	session session.Session
	binding session.Binding
	loss    *session.Tensor
	rows    []table
	masks   []grad.Mask
	buffers map[string][]float32 // of the masks
	sums    []float32            // gradients of the step's batches so far, when accumulating
	threads int
	optim   trainer.Optimizer
	steps   int // optimizer steps done

	anchor []float32 // the weights that a proximal term holds the others to; nil without one
	mu     float64   // of that term
}

// A table is a parameter whose gradient comes as rows.
type table struct {
	parameter
	outputs []grad.RowGradient
	dense   bool    // it has a dense gradient as well
	touched []int64 // rows of the gradient that are not zero
}

// newLearner differentiates m, a graph with an output "loss", and opens the
// training graph. tables names the weights that are large and looked up.
func newLearner(ctx context.Context, opener session.Opener, m *graph.Model, r trainer.Recipe, tables []string, threads int) (*learner, error) {
	m, masks, err := grad.TrainingDropout(m)
	if err != nil {
		return nil, err
	}
	training, err := grad.Differentiate(m, grad.Options{
		Loss: objective.Loss, Wrt: objective.Trainable(m), RowGradients: tables,
	})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range objective.Trainable(m) {
		if _, ok := training.Gradients[name]; ok {
			names = append(names, name)
		}
	}
	params, err := newParameters(m, names, func(name string) float64 {
		if name == architecture.NGramTable {
			return r.Optimizer.TableRate
		}
		return 1
	})
	if err != nil {
		return nil, err
	}
	data, err := graph.Marshal(training.Model)
	if err != nil {
		return nil, err
	}
	s, err := opener.Open(ctx, data, session.Options{Threads: threads, Label: "training"})
	if err != nil {
		return nil, err
	}
	l := &learner{
		params: params, session: s, masks: masks, threads: threads, optim: r.Optimizer,
		buffers: map[string][]float32{},
	}
	if err := l.bind(training); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// bind fixes weights, gradients and the loss to their memory.
func (l *learner) bind(t *grad.Training) (err error) {
	if l.binding, err = l.session.Bind(); err != nil {
		return err
	}
	if l.loss, err = session.Zeros[float32](); err != nil {
		return err
	}
	if err := l.binding.Output(t.Loss, l.loss); err != nil {
		return err
	}
	for _, p := range l.params.list {
		weight, err := session.New(l.params.weights[p.begin:p.end], p.dims...)
		if err != nil {
			return err
		}
		if err := l.binding.Input(p.name, weight); err != nil {
			return err
		}
		g := t.Gradients[p.name]
		if g.Dense != "" {
			dense, err := session.New(l.params.grads[p.begin:p.end], p.dims...)
			if err != nil {
				return err
			}
			if err := l.binding.Output(g.Dense, dense); err != nil {
				return err
			}
		}
		for _, r := range g.Rows {
			if err := l.binding.OutputAuto(r.Indices); err != nil {
				return err
			}
			if err := l.binding.OutputAuto(r.Rows); err != nil {
				return err
			}
		}
		if len(g.Rows) > 0 {
			l.rows = append(l.rows, table{parameter: p, outputs: g.Rows, dense: g.Dense != ""})
		}
	}
	return nil
}

func (l *learner) close() {
	if l.binding != nil {
		l.binding.Close()
	}
	l.session.Close()
}

// A feed is the inputs of one batch, by name, and the sizes of the graph's
// symbols in it.
type feed struct {
	inputs  map[string]*session.Tensor
	symbols map[string]int64
	stream  uint64 // draws the batch's dropout; unique in a run
}

// step computes the gradients of the feeds, one after the other, and updates
// the weights with their sum. It returns the loss and the gradients' norm
// before clipping. A loss or a gradient that is not finite is an error, and
// the weights stay as they were.
func (l *learner) step(ctx context.Context, feeds []feed, seed uint64, rate, clip float64) (loss, norm float64, err error) {
	for i, f := range feeds {
		part, err := l.gradient(ctx, f, seed)
		if err != nil {
			return 0, 0, err
		}
		loss += part
		if len(feeds) > 1 {
			l.accumulate(i == 0)
		}
	}
	grads := l.params.grads
	if len(feeds) > 1 {
		grads = l.sums
	}
	if l.anchor != nil {
		loss += l.proximal(grads)
		grads = l.sums
	}
	norm = math.Sqrt(kernel.SumSquares(grads, l.threads))
	if math.IsNaN(loss) || math.IsInf(loss, 0) || math.IsNaN(norm) || math.IsInf(norm, 0) {
		what, value := "loss", loss
		if !math.IsNaN(loss) && !math.IsInf(loss, 0) {
			what, value = "gradient's norm", norm
		}
		return loss, norm, galley.Errorf(galley.OutOfRange, fmt.Sprintf("step %d", l.steps+1), "the %s is %v", what, value).
			WithRemedy("lower recipe.optimizer.lr or set recipe.clip_norm; the last good checkpoint is kept")
	}
	scale := 1.0
	if clip > 0 && norm > clip {
		scale = clip / norm
	}
	l.steps++
	l.update(grads, rate, scale)
	return loss, norm, nil
}

// gradient runs the training graph on one batch and adds the rows of tables
// to their gradients, in the order in which the batch names them.
func (l *learner) gradient(ctx context.Context, f feed, seed uint64) (float64, error) {
	if err := l.feedMasks(f, seed); err != nil {
		return 0, err
	}
	for name, t := range f.inputs {
		if err := l.binding.Input(name, t); err != nil {
			return 0, err
		}
	}
	for i := range l.rows {
		l.rows[i].clear(l.params.grads)
	}
	if err := l.binding.Run(ctx); err != nil {
		return 0, err
	}
	for i := range l.rows {
		if err := l.rows[i].add(l.binding, l.params.grads); err != nil {
			return 0, err
		}
	}
	return float64(session.Data[float32](l.loss)[0]), nil
}

// clear zeroes the rows that the last batch touched; a dense gradient is
// overwritten by the next run anyway.
func (t *table) clear(grads []float32) {
	width := t.width()
	if !t.dense {
		for _, row := range t.touched {
			clear(grads[t.begin+int(row)*width:][:width])
		}
	}
	t.touched = t.touched[:0]
}

func (t *table) add(b session.Binding, grads []float32) error {
	for _, out := range t.outputs {
		indices, err := b.Fetch(out.Indices)
		if err != nil {
			return err
		}
		rows, err := b.Fetch(out.Rows)
		if err != nil {
			return err
		}
		ids := session.Data[int64](indices)
		if err := kernel.AddRows(grads[t.begin:t.end], t.width(), ids, session.Data[float32](rows)); err != nil {
			return err
		}
		t.touched = append(t.touched, ids...)
	}
	return nil
}

func (t *table) width() int { return (t.end - t.begin) / int(t.dims[0]) }

// accumulate adds the batch's gradients to those of the step.
func (l *learner) accumulate(first bool) {
	if l.sums == nil {
		l.sums = make([]float32, len(l.params.grads))
	}
	if first {
		copy(l.sums, l.params.grads)
		return
	}
	kernel.AddScaled(l.sums, l.params.grads, 1, l.threads)
}

func (l *learner) update(grads []float32, rate, scale float64) {
	for _, p := range l.params.list {
		decay := l.optim.WeightDecay
		if !p.decays {
			decay = 0
		}
		kernel.AdamW(l.params.weights[p.begin:p.end], grads[p.begin:p.end], l.params.m[p.begin:p.end], l.params.v[p.begin:p.end],
			kernel.AdamWParams{
				LR: rate * p.rate, Beta1: l.optim.Beta1, Beta2: l.optim.Beta2, Eps: l.optim.Epsilon,
				WeightDecay: decay, Step: l.steps, GradScale: scale,
			}, l.threads)
	}
}

// feedMasks draws the dropout masks of a batch.
func (l *learner) feedMasks(f feed, seed uint64) error {
	for i, mask := range l.masks {
		shape, n := make([]int64, len(mask.Shape)), int64(1)
		for j, d := range mask.Shape {
			size, ok := d.Size, true
			if size < 0 {
				size, ok = f.symbols[d.Symbol]
			}
			if !ok {
				return galley.Errorf(galley.Internal, mask.Input, "its size %s is not one of the batch", d)
			}
			shape[j] = size
			n *= size
		}
		buffer := slices.Grow(l.buffers[mask.Input][:0], int(n))[:n]
		l.buffers[mask.Input] = buffer
		kernel.DropoutMask(buffer, mask.Ratio, seed, f.stream*uint64(len(l.masks))+uint64(i), 0, l.threads)
		t, err := session.New(buffer, shape...)
		if err != nil {
			return err
		}
		if err := l.binding.Input(mask.Input, t); err != nil {
			return err
		}
	}
	return nil
}
