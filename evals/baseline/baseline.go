package baseline

import (
	"context"
	"math"
	"slices"

	"galley"
	"galley/dataset"
	"galley/evals"
)

// Name is what reports call the baseline.
const Name = "tfidf-logistic-regression"

// Options of the baseline. The zero value will do.
type Options struct {
	C           []float64 // inverse strengths of the penalty to try, ascending; 1, 3, 10, 30 if none
	MinRows     int       // rows that an n-gram must occur in; 2 if 0, 1 if there are under 5,000 rows
	MaxFeatures int       // 100,000 if 0; fewer if there are many labels
	MaxRows     int       // of train, of which an even share is taken; 100,000 if 0
	Sublinear   bool      // weigh 1+ln of a term's frequency instead of the frequency
}

// maxWeights bounds the memory of training, in which about 20 numbers are
// kept per weight.
const maxWeights = 2_000_000

func (o Options) complete(rows, labels int) (Options, error) {
	if len(o.C) == 0 {
		o.C = []float64{1, 3, 10, 30}
	}
	for i, c := range o.C {
		if !(c > 0) || math.IsInf(c, 0) || i > 0 && c <= o.C[i-1] {
			return o, galley.Errorf(galley.InvalidArgument, "baseline", "C is not a list of ascending positive numbers: %v", o.C)
		}
	}
	if o.MinRows == 0 {
		o.MinRows = 2
		if rows < 5000 {
			o.MinRows = 1
		}
	}
	if o.MaxFeatures == 0 {
		o.MaxFeatures = 100_000
	}
	o.MaxFeatures = min(o.MaxFeatures, maxWeights/labels)
	if o.MaxRows == 0 {
		o.MaxRows = 100_000
	}
	if o.MinRows < 0 || o.MaxFeatures < 0 || o.MaxRows < 0 {
		return o, galley.Errorf(galley.InvalidArgument, "baseline", "an option is negative: %+v", o)
	}
	return o, nil
}

// A Model is a trained baseline. Predict may be called by several goroutines
// at once.
type Model struct {
	vocabulary *Vocabulary
	regression *regression
	parameters map[string]float64
}

var _ evals.Predictor = (*Model)(nil)

// Train learns n-grams and weights from train, and chooses among the values
// of C the one most accurate on valid, the smallest of equals. Without rows
// in valid it takes the middle one. labels are those of the model, in its
// order.
func Train(ctx context.Context, train, valid dataset.Rows, labels []string, o Options) (*Model, error) {
	index := make(map[string]int, len(labels))
	for i, label := range labels {
		index[label] = i
	}
	if len(index) < 2 || len(index) != len(labels) {
		return nil, galley.Errorf(galley.InvalidArgument, "labels", "there are %d different ones of %d; a classifier has two or more", len(index), len(labels))
	}
	if train.Len() == 0 {
		return nil, galley.Errorf(galley.FailedPrecondition, "baseline", "there are no rows to train on")
	}
	o, err := o.complete(train.Len(), len(labels))
	if err != nil {
		return nil, err
	}
	if train.Len() > o.MaxRows {
		train, err = dataset.NewSubset(ctx, train, float64(o.MaxRows)/float64(train.Len()), 0)
		if err != nil {
			return nil, err
		}
	}
	v, err := learnVocabulary(ctx, train, o.MinRows, o.MaxFeatures, o.Sublinear)
	if err != nil {
		return nil, err
	}
	rows, err := v.matrix(ctx, train, index)
	if err != nil {
		return nil, err
	}
	m := &Model{vocabulary: v, parameters: map[string]float64{"features": float64(v.Len()), "rows": float64(rows.rows())}}
	if valid == nil || valid.Len() == 0 {
		c := o.C[len(o.C)/2]
		m.regression = newRegression(v.Len(), len(labels))
		m.parameters["c"] = c
		return m, m.regression.fit(ctx, rows, c)
	}
	held, err := v.matrix(ctx, valid, index)
	if err != nil {
		return nil, err
	}
	return m, m.choose(ctx, rows, held, len(labels), o.C)
}

// choose fits one regression per value of C, each from the weights of the one
// before, and keeps the best.
func (m *Model) choose(ctx context.Context, rows, held *matrix, labels int, values []float64) error {
	r := newRegression(m.vocabulary.Len(), labels)
	best := -1
	for _, c := range values {
		if err := r.fit(ctx, rows, c); err != nil {
			return err
		}
		if right := r.right(held); right > best {
			best = right
			m.regression = &regression{labels: labels, weights: slices.Clone(r.weights)}
			m.parameters["c"] = c
			m.parameters["valid_accuracy"] = float64(right) / float64(held.rows())
		}
	}
	return nil
}

// right counts the rows whose label gets the highest score.
func (r *regression) right(m *matrix) int {
	n, z := 0, make([]float64, r.labels)
	for i := range m.rows() {
		r.scores(z, m.row(i), r.weights)
		best := 0
		for k := range z {
			if z[k] > z[best] {
				best = k
			}
		}
		if int32(best) == m.labels[i] {
			n++
		}
	}
	return n
}

// Predict implements evals.Predictor.
func (m *Model) Predict(ctx context.Context, texts []string) ([]evals.Prediction, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]evals.Prediction, len(texts))
	z := make([]float64, m.regression.labels)
	var terms []term
	for i, text := range texts {
		terms = m.vocabulary.vector(terms[:0], text)
		m.regression.scores(z, terms, m.regression.weights)
		softmax(z)
		scores := make([]float32, len(z))
		for k, p := range z {
			scores[k] = float32(p)
		}
		out[i] = evals.Prediction{Scores: scores}
	}
	return out, nil
}

// Contender returns the model as evals.Run takes it.
func (m *Model) Contender() evals.Contender {
	return evals.Contender{Name: Name, Parameters: m.parameters, Predictor: m}
}

func unknownLabel(row int, label string) error {
	return galley.Errorf(galley.InvalidArgument, "baseline", "row %d has the label %q, which the model does not know", row, label)
}
