package evals

import (
	"context"
	"iter"
	"time"
	"unicode/utf8"

	"galley"
	"galley/dataset"
)

// A Prediction is a model's answer to one text.
type Prediction struct {
	Scores    []float32 // probabilities, one per label
	Truncated bool      // the text was longer than the model reads
}

// A Predictor answers texts, in their order.
type Predictor interface {
	Predict(ctx context.Context, texts []string) ([]Prediction, error)
}

// Options say how to measure. The zero value will do.
type Options struct {
	Batch     int // texts per call; 64 if 0
	Latency   int // texts asked one at a time to measure latency; 200 if 0, none if negative
	Baselines []Contender
	// Progress, if set, is told after each batch how many rows are done.
	Progress func(rows int)
	// Observe, if set, gets every row, its number and the model's answer.
	Observe func(row int, gold, predicted int)
}

// A Contender is a baseline that answers the same rows. Its scores are in the
// order of the same labels.
type Contender struct {
	Name       string
	Parameters map[string]float64 // for the report
	Predictor  Predictor
}

// Limits on options.
const (
	maxBatch   = 4096
	maxLatency = 10_000
)

// Sequence returns the rows in order.
func Sequence(rows dataset.Rows) iter.Seq2[dataset.Row, error] {
	return func(yield func(dataset.Row, error) bool) {
		for i := range rows.Len() {
			row, err := rows.At(i)
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// Run evaluates a predictor on rows, whose labels must be among labels, the
// order of its scores. Rows are streamed; those of the latency sample, chosen
// evenly by a fixed seed, are kept until the end.
func Run(ctx context.Context, p Predictor, rows iter.Seq2[dataset.Row, error], labels []string, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	e, err := newEvaluation(p, labels, o)
	if err != nil {
		return nil, err
	}
	before := usage()
	for row, err := range rows {
		if err != nil {
			return nil, err
		}
		if err := e.take(row); err != nil {
			return nil, err
		}
		if len(e.batch) == o.Batch {
			if err := e.flush(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := e.flush(ctx); err != nil {
		return nil, err
	}
	if e.rows == 0 {
		return nil, galley.Errorf(galley.FailedPrecondition, "evals", "there are no rows to evaluate on").
			WithRemedy("choose a split that has rows")
	}
	after := usage()
	latency, err := measureLatency(ctx, p, e.sample.texts)
	if err != nil {
		return nil, err
	}
	r := e.report()
	r.LatencyMS = latency
	r.Resources = Resources{
		Seconds:       e.spent.Seconds(),
		RowsPerSecond: float64(e.rows) / max(e.spent.Seconds(), 1e-9),
		CPUSeconds:    after.cpu - before.cpu,
		PeakBytes:     after.peak,
	}
	return r, nil
}

func (o *Options) check() error {
	if o.Batch == 0 {
		o.Batch = 64
	}
	if o.Latency == 0 {
		o.Latency = 200
	}
	if o.Batch < 0 || o.Batch > maxBatch {
		return galley.Errorf(galley.OutOfRange, "batch", "%d is not from 1 to %d", o.Batch, maxBatch)
	}
	if o.Latency > maxLatency {
		return galley.Errorf(galley.OutOfRange, "latency sample", "%d is more than %d", o.Latency, maxLatency)
	}
	return nil
}

// An evaluation is the state of one Run.
type evaluation struct {
	p       Predictor
	o       Options
	labels  []string
	index   map[string]int
	count   *Classification
	against []*contest
	sample  reservoir

	batch     []dataset.Row
	texts     []string
	rows      int // evaluated
	truncated int
	spent     time.Duration
}

// A contest is the count of one baseline.
type contest struct {
	Contender
	count *Classification
	pairs Pairing
}

func newEvaluation(p Predictor, labels []string, o Options) (*evaluation, error) {
	if len(labels) < 2 || len(labels) > dataset.MaxLabels {
		return nil, galley.Errorf(galley.InvalidArgument, "labels", "there are %d; a classifier has 2 to %d", len(labels), dataset.MaxLabels)
	}
	e := &evaluation{
		p: p, o: o, labels: labels,
		index:  make(map[string]int, len(labels)),
		count:  NewClassification(labels),
		sample: newReservoir(o.Latency),
	}
	for i, label := range labels {
		if _, twice := e.index[label]; twice {
			return nil, galley.Errorf(galley.InvalidArgument, "labels", "%q occurs twice", label)
		}
		e.index[label] = i
	}
	for _, c := range o.Baselines {
		e.against = append(e.against, &contest{Contender: c, count: NewClassification(labels)})
	}
	return e, nil
}

func (e *evaluation) take(row dataset.Row) error {
	if _, ok := e.index[row.Label]; !ok {
		return galley.Errorf(galley.InvalidArgument, "evals", "row %d has the label %q, which the model does not know", e.rows+len(e.batch), row.Label).
			WithRemedy("evaluate on data with the model's %d labels, or train a model on this data", len(e.labels))
	}
	e.batch = append(e.batch, row)
	e.sample.offer(row.Text)
	return nil
}

func (e *evaluation) flush(ctx context.Context) error {
	if len(e.batch) == 0 {
		return nil
	}
	e.texts = e.texts[:0]
	for _, row := range e.batch {
		e.texts = append(e.texts, row.Text)
	}
	start := time.Now()
	own, err := ask(ctx, e.p, e.texts, "the model")
	e.spent += time.Since(start)
	if err != nil {
		return err
	}
	right := make([]bool, len(e.batch))
	for i, row := range e.batch {
		gold := e.index[row.Label]
		predicted, err := addRow(e.count, gold, own[i], row)
		if err != nil {
			return err
		}
		right[i] = predicted == gold
		if own[i].Truncated {
			e.truncated++
		}
		if e.o.Observe != nil {
			e.o.Observe(e.rows+i, gold, predicted)
		}
	}
	for _, c := range e.against {
		other, err := ask(ctx, c.Predictor, e.texts, c.Name)
		if err != nil {
			return err
		}
		for i, row := range e.batch {
			gold := e.index[row.Label]
			predicted, err := addRow(c.count, gold, other[i], row)
			if err != nil {
				return err
			}
			c.pairs.Add(right[i], predicted == gold)
		}
	}
	e.rows += len(e.batch)
	e.batch = e.batch[:0]
	if e.o.Progress != nil {
		e.o.Progress(e.rows)
	}
	return nil
}

// addRow counts a row and returns the answer.
func addRow(c *Classification, gold int, p Prediction, row dataset.Row) (int, error) {
	predicted, err := answer(p.Scores, c.labels)
	if err != nil {
		return 0, err
	}
	c.count(gold, predicted, p.Scores[gold], row.Language, utf8.RuneCountInString(row.Text))
	return predicted, nil
}

// ask makes sure that every text has its answer.
func ask(ctx context.Context, p Predictor, texts []string, name string) ([]Prediction, error) {
	out, err := p.Predict(ctx, texts)
	if err != nil {
		return nil, err
	}
	if len(out) != len(texts) {
		return nil, galley.Errorf(galley.Internal, "evals", "%s gave %d answers to %d texts", name, len(out), len(texts))
	}
	return out, nil
}

func (e *evaluation) report() *Report {
	r := &Report{
		Task:      "text-classification",
		N:         e.rows,
		Metrics:   e.count.Metrics(),
		Slices:    e.count.Slices(),
		Labels:    e.count.PerLabel(),
		Confusion: e.count.Confusion(),
		Truncated: e.truncated,
		Baselines: []Baseline{},
		Gate:      Verdict{Passed: true, Checks: []Check{}},
	}
	for _, c := range e.against {
		b := Baseline{
			Name:       c.Name,
			Parameters: c.Parameters,
			Metrics:    c.count.Metrics(),
			Difference: c.pairs.Difference(),
			Pairing:    c.pairs,
			P:          c.pairs.McNemar(),
		}
		r.Baselines = append(r.Baselines, b)
		r.Gate.Add(checkBaseline(b, r.Metrics[Accuracy]))
	}
	return r
}
