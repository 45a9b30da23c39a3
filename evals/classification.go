package evals

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"galley"
)

// leastProbability bounds the loss of one row: a model may say 0 for the
// truth. It is the spacing of float32 at 1, as scikit-learn's log_loss takes
// for float32 probabilities.
const leastProbability = 1.0 / (1 << 23)

// maxLanguages is the most languages that get a slice of their own; a dataset
// may not have more. Rows of further ones share a slice.
const maxLanguages = 256

// A Classification counts the answers of a classifier. It is not for several
// goroutines at once.
type Classification struct {
	labels    []string
	all       part
	languages map[string]*part
	lengths   [len(lengthNames)]part
}

// A part is what is counted for all rows or for those of a slice.
type part struct {
	counts
	loss  moments
	trust calibration
}

// NewClassification starts a count over the given labels, in the order of a
// model's scores.
func NewClassification(labels []string) *Classification {
	return &Classification{labels: labels, languages: make(map[string]*part)}
}

// Add counts one row: gold is the index of its label, scores are the
// probabilities of all labels, language may be empty, and length is that of
// the text in characters (0 if unknown). The answer is the first of the
// highest scores. Add returns an error, and counts nothing, if gold or the
// number of scores is wrong or if a score is not a number.
func (c *Classification) Add(gold int, scores []float32, language string, length int) error {
	if gold < 0 || gold >= len(c.labels) {
		return galley.Errorf(galley.InvalidArgument, "evals", "label %d is not one of %d", gold, len(c.labels))
	}
	predicted, err := answer(scores, c.labels)
	if err != nil {
		return err
	}
	c.count(gold, predicted, scores, language, length)
	return nil
}

// count counts one row.
func (c *Classification) count(gold, predicted int, scores []float32, language string, length int) {
	loss := -math.Log(min(1, max(leastProbability, float64(scores[gold]))))
	confidence := float64(scores[predicted])
	c.all.add(gold, predicted, loss, confidence)
	if language != "" {
		c.language(language).add(gold, predicted, loss, confidence)
	}
	if length > 0 {
		c.lengths[lengthSlice(length)].add(gold, predicted, loss, confidence)
	}
}

// answer returns the index of the highest score, the first of equals.
func answer(scores []float32, labels []string) (int, error) {
	if len(scores) != len(labels) {
		return 0, galley.Errorf(galley.InvalidArgument, "evals", "a row has %d scores for %d labels", len(scores), len(labels))
	}
	best := 0
	for i, s := range scores {
		if s != s {
			return 0, galley.Errorf(galley.InvalidArgument, "evals", "the score of label %q is not a number", labels[i])
		}
		if s > scores[best] {
			best = i
		}
	}
	return best, nil
}

func (c *Classification) language(name string) *part { return ofLanguage(c.languages, name) }

// ofLanguage returns what belongs to a language, new if it is the first of
// it; languages beyond the bound share one.
func ofLanguage[T any](languages map[string]*T, name string) *T {
	p, ok := languages[name]
	if ok {
		return p
	}
	if len(languages) >= maxLanguages {
		name = "other"
		if p, ok = languages[name]; ok {
			return p
		}
	}
	p = new(T)
	languages[name] = p
	return p
}

// The length slices: upper bounds in characters, the last one open. They are
// fixed, not quantiles of the data, so that reports on different rows speak of
// the same texts: a word or two, a headline, a paragraph, an item, an article.
var lengthBounds = [...]int{16, 64, 256, 1024, math.MaxInt}

var lengthNames = [len(lengthBounds)]string{"1-16", "17-64", "65-256", "257-1024", "1025+"}

func lengthSlice(n int) int {
	i := 0
	for n > lengthBounds[i] {
		i++
	}
	return i
}

func (p *part) add(gold, predicted int, loss, confidence float64) {
	p.counts.add(gold, predicted)
	p.loss.add(loss)
	if p.trust == nil {
		p.trust = calibration{}
	}
	p.trust.add(gold == predicted, confidence)
}

func (p *part) metrics(labels int) map[string]Metric {
	return map[string]Metric{
		Accuracy: Wilson(p.correct(), p.n),
		MacroF1:  bootstrapF1(&p.counts, labels),
		Loss:     p.loss.metric(),
		ECE:      p.trust.metric(p.n),
	}
}

// N is the number of rows counted.
func (c *Classification) N() int { return c.all.n }

// Values are the metrics without intervals, which cost almost nothing.
func (c *Classification) Values() map[string]float64 {
	return map[string]float64{
		Accuracy: ratio(c.all.correct(), c.all.n),
		MacroF1:  macroF1(c.margins()),
		Loss:     c.all.loss.mean,
	}
}

// Metrics are the metrics with intervals.
func (c *Classification) Metrics() map[string]Metric { return c.all.metrics(len(c.labels)) }

// A Slice is the metrics of some of the rows.
type Slice struct {
	Name    string            `json:"name"` // "language=zh", "length=17-64" (characters)
	N       int               `json:"n"`
	Metrics map[string]Metric `json:"metrics"`
}

// Slices returns the slices by language, then those by length, each in order.
func (c *Classification) Slices() []Slice {
	out := make([]Slice, 0, len(c.languages)+len(c.lengths))
	add := func(name string, p *part) {
		if p.n > 0 {
			out = append(out, Slice{Name: name, N: p.n, Metrics: p.metrics(len(c.labels))})
		}
	}
	for _, language := range slices.Sorted(maps.Keys(c.languages)) {
		add("language="+language, c.languages[language])
	}
	for i := range c.lengths {
		add("length="+lengthNames[i], &c.lengths[i])
	}
	return out
}

// Confusion returns the confusion matrix, or nil if there are more than
// MaxConfusionLabels labels.
func (c *Classification) Confusion() *Confusion {
	if len(c.labels) > MaxConfusionLabels {
		return nil
	}
	m := &Confusion{Labels: slices.Clone(c.labels), Counts: make([][]int, len(c.labels))}
	for i := range m.Counts {
		m.Counts[i] = make([]int, len(c.labels))
	}
	for at, n := range c.all.cells {
		m.Counts[at.gold][at.predicted] = n
	}
	return m
}

// Calibration returns the bins of the calibration error, by rising confidence.
func (c *Classification) Calibration() []Bin { return c.all.trust.reliability(c.all.n) }

// Confused returns the wrong answers that are given most often, at most
// MaxConfusedPairs, the most frequent ones first.
func (c *Classification) Confused() []ConfusedPair {
	at, n := c.all.sorted()
	by := make([]margins, len(c.labels))
	tally(by, at, n)
	out := []ConfusedPair{}
	for i, k := range at {
		if k.gold != k.predicted {
			out = append(out, ConfusedPair{Label: c.labels[k.gold], Answer: c.labels[k.predicted], N: n[i], Share: ratio(n[i], by[k.gold].gold)})
		}
	}
	slices.SortStableFunc(out, func(a, b ConfusedPair) int { return cmp.Compare(b.N, a.N) })
	return slices.Clip(out[:min(len(out), MaxConfusedPairs)])
}

// PerLabel returns precision, recall and F1 of each label.
func (c *Classification) PerLabel() []LabelScore {
	out := make([]LabelScore, len(c.labels))
	for i, m := range c.margins() {
		out[i] = LabelScore{Label: c.labels[i], N: m.gold, Precision: m.precision(), Recall: m.recall(), F1: m.f1()}
	}
	return out
}

func (c *Classification) margins() []margins {
	at, n := c.all.sorted()
	by := make([]margins, len(c.labels))
	tally(by, at, n)
	return by
}
