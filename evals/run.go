package evals

import (
	"context"
	"fmt"
	"iter"
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
	SizeBytes int64 // of the model, for the report
	// PerCPUHour is the price of an hour of one processor, for the report; 0 if
	// there is none.
	PerCPUHour float64
	// Place, if set, names the place of the row that was read last, for
	// errors: "fresh.csv:17".
	Place func() string
	// Progress, if set, is told after each batch how many rows are done.
	Progress func(rows int)
	// ShowTexts puts the texts of rows that two versions answer differently
	// into the report, not only their numbers.
	ShowTexts bool
	// Robustness asks for each text again as each of the perturbations of
	// package perturb changes it under Seed, of Baselines those that are
	// versions, too.
	Robustness bool
	Seed       uint32
	// Observe, if set, gets every row, its number and the model's answer.
	Observe func(row int, gold, predicted int)
}

// Limits on options.
const (
	maxBatch   = 4096
	maxLatency = 10_000
	maxPrice   = 1e9
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
	r := e.report()
	r.Resources = e.resources()
	if err := e.time(ctx, r); err != nil {
		return nil, err
	}
	return r, nil
}

// time measures single requests of the model, in turns with those of the
// versions that it is compared with.
func (e *evaluation) time(ctx context.Context, r *Report) error {
	models := []Contender{{Name: "the model", Predictor: e.p}}
	var beside []int
	for i, c := range e.against {
		if c.Version != nil {
			models, beside = append(models, c.Contender), append(beside, i)
		}
	}
	took, err := measureLatency(ctx, models, e.sample.kept)
	if err != nil {
		return err
	}
	r.LatencyMS = took[0].latency()
	for k, i := range beside {
		latency := took[k+1].latency()
		r.Baselines[i].LatencyMS, r.Baselines[i].Ratios = &latency, ratios(took[0], took[k+1])
	}
	return nil
}

// resources are what the model's predictions used.
func (e *evaluation) resources() Resources {
	r := Resources{
		Seconds:       e.used.spent.Seconds(),
		RowsPerSecond: e.used.rowsPerSecond(e.rows),
		CPUSeconds:    e.used.cpu,
		PeakBytes:     usage().peak,
		SizeBytes:     e.o.SizeBytes,

		CPUSecondsPerThousand: e.used.cpuPerThousand(e.rows),
		Energy:                e.energy.energy(e.rows, e.used.spent.Seconds()),
	}
	if price := e.o.PerCPUHour; price > 0 {
		r.Cost = &Cost{PerCPUHour: price, PerThousand: r.CPUSecondsPerThousand / 3600 * price}
	}
	return r
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
	if p := o.PerCPUHour; !(p >= 0 && p <= maxPrice) {
		return galley.Errorf(galley.OutOfRange, "price of a CPU hour", "%v is not from 0 to %.0f", p, maxPrice)
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
	disturb []*disturbance
	shaken  []*shaken // by disturbance
	sample  reservoir[string]

	batch     []dataset.Row
	gold      []int    // of the batch
	places    []string // of the batch, if rows have places and are compared
	texts     []string
	rows      int // evaluated
	truncated int
	used      effort // by the model's predictions
	energy    *energyMeter
}

func newEvaluation(p Predictor, labels []string, o Options) (*evaluation, error) {
	if len(labels) < 2 || len(labels) > dataset.MaxLabels {
		return nil, galley.Errorf(galley.InvalidArgument, "labels", "there are %d; a classifier has 2 to %d", len(labels), dataset.MaxLabels)
	}
	e := &evaluation{
		p: p, o: o, labels: labels,
		index:  make(map[string]int, len(labels)),
		count:  NewClassification(labels),
		sample: newReservoir[string](o.Latency, 1),
		energy: newEnergyMeter(powercap),
	}
	for i, label := range labels {
		if _, twice := e.index[label]; twice {
			return nil, galley.Errorf(galley.InvalidArgument, "labels", "%q occurs twice", label)
		}
		e.index[label] = i
	}
	if o.Robustness {
		e.disturb = newDisturbances()
		e.shaken = newShaken(len(e.disturb))
	}
	for _, c := range o.Baselines {
		e.against = append(e.against, newContest(c, labels, len(e.disturb)))
	}
	return e, nil
}

func (e *evaluation) take(row dataset.Row) error {
	if _, ok := e.index[row.Label]; !ok {
		place := fmt.Sprintf("row %d", e.rows+len(e.batch))
		if e.o.Place != nil {
			place = e.o.Place()
		}
		return galley.Errorf(galley.InvalidArgument, place, "has the label %q, which the model does not know", row.Label).
			WithRemedy("evaluate on data with the model's %d labels, or train a model on this data", len(e.labels))
	}
	e.batch = append(e.batch, row)
	if e.o.Place != nil && len(e.against) > 0 {
		e.places = append(e.places, e.o.Place())
	}
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
	own, err := e.askModel(ctx)
	if err != nil {
		return err
	}
	answers := make([]int, len(e.batch))
	e.gold = e.gold[:0]
	for i, row := range e.batch {
		gold := e.index[row.Label]
		e.gold = append(e.gold, gold)
		predicted, err := addRow(e.count, gold, own[i], row)
		if err != nil {
			return err
		}
		answers[i] = predicted
		if own[i].Truncated {
			e.truncated++
		}
		if e.o.Observe != nil {
			e.o.Observe(e.rows+i, gold, predicted)
		}
	}
	for _, c := range e.against {
		other, err := c.used.ask(ctx, c.Predictor, e.texts, c.Name)
		if err != nil {
			return err
		}
		c.answers = c.answers[:0]
		for i, row := range e.batch {
			predicted, err := addRow(c.count, e.gold[i], other[i], row)
			if err != nil {
				return err
			}
			c.answers = append(c.answers, predicted)
			c.add(row, e.at(i), e.gold[i], answers[i], predicted)
		}
	}
	if err := e.shake(ctx, answers); err != nil {
		return err
	}
	e.rows += len(e.batch)
	e.batch, e.places = e.batch[:0], e.places[:0]
	if e.o.Progress != nil {
		e.o.Progress(e.rows)
	}
	return nil
}

// shake asks for the batch's texts again, changed, the model and the versions that
// it is compared with.
func (e *evaluation) shake(ctx context.Context, answers []int) error {
	for k, d := range e.disturb {
		d.change(e.texts, uint64(e.o.Seed))
		if err := e.shaken[k].ask(ctx, d, e.p, "the model", e.labels, e.gold, answers); err != nil {
			return err
		}
		for _, c := range e.against {
			if c.Version == nil {
				continue
			}
			if err := c.shaken[k].ask(ctx, d, c.Predictor, c.Name, e.labels, e.gold, c.answers); err != nil {
				return err
			}
			c.shaken[k].compare(e.shaken[k])
		}
	}
	return nil
}

// askModel asks the model for the batch, and measures what that takes.
func (e *evaluation) askModel(ctx context.Context) ([]Prediction, error) {
	e.energy.begin()
	own, err := e.used.ask(ctx, e.p, e.texts, "the model")
	e.energy.end()
	return own, err
}

// at says which row is number i of the batch.
func (e *evaluation) at(i int) rowAt {
	at := rowAt{number: e.rows + i}
	if len(e.places) > 0 {
		at.place = e.places[i]
	}
	if e.o.ShowTexts {
		at.text = shown(e.batch[i])
	}
	return at
}

// addRow counts a row and returns the answer.
func addRow(c *Classification, gold int, p Prediction, row dataset.Row) (int, error) {
	predicted, err := answer(p.Scores, c.labels)
	if err != nil {
		return 0, err
	}
	c.count(gold, predicted, p.Scores, row.Language, utf8.RuneCountInString(row.Text))
	return predicted, nil
}

func (e *evaluation) report() *Report {
	r := &Report{
		Task:        "text-classification",
		N:           e.rows,
		Metrics:     e.count.Metrics(),
		Slices:      e.count.Slices(),
		Labels:      e.count.PerLabel(),
		Confusion:   e.count.Confusion(),
		Confused:    e.count.Confused(),
		Calibration: e.count.Calibration(),
		Truncated:   e.truncated,
		Baselines:   []Baseline{},
		Gate:        Verdict{Passed: true, Checks: []Check{}},
	}
	if e.o.Robustness {
		r.Robustness = &Robustness{Seed: e.o.Seed}
		for k, d := range e.disturb {
			r.Robustness.Perturbations = append(r.Robustness.Perturbations, e.shaken[k].result(d))
		}
	}
	for _, c := range e.against {
		b := c.baseline()
		r.Baselines = append(r.Baselines, b)
		if c.Version != nil {
			for k, d := range e.disturb {
				last := &r.Baselines[len(r.Baselines)-1]
				last.Robustness = append(last.Robustness, PerturbedBeside{c.shaken[k].result(d), c.shaken[k].beside.Difference()})
			}
			r.Metrics[Agreement] = b.Agreement
			continue
		}
		r.Gate.Add(checkBaseline(b, r.Metrics[Accuracy]))
	}
	return r
}
