package evals

import (
	"maps"
	"slices"
	"unicode/utf8"

	"galley"
	"galley/dataset"
)

// A Contender is another model that answers the same rows: a baseline, or the
// version in production. Its scores are in the order of the same labels.
type Contender struct {
	Name       string
	Parameters map[string]float64 // for the report
	Predictor  Predictor
	Version    *Contestant // of a registered version; nil for others
}

// A Contestant is what the report says of a contender that is a version. Its
// single requests are measured, in turns with the model's.
type Contestant struct {
	Model     galley.Digest
	SizeBytes int64
}

// A contest is the count of one contender.
type contest struct {
	Contender
	count     *Classification
	pairs     Pairing
	joint     triples
	disputes  disputes
	alike     int    // rows with the same answer
	used      effort // by the contender's predictions
	answers   []int  // to the batch
	shaken    []*shaken
	languages map[string]*Pairing
	lengths   [len(lengthNames)]Pairing
}

func newContest(c Contender, labels []string, disturbances int) *contest {
	return &contest{
		shaken:    newShaken(disturbances),
		Contender: c, count: NewClassification(labels), joint: newTriples(), disputes: newDisputes(),
		languages: make(map[string]*Pairing),
	}
}

// add counts a row that the model and the contender have answered.
func (c *contest) add(row dataset.Row, at rowAt, gold, own, other int) {
	a, b := own == gold, other == gold
	if own == other {
		c.alike++
	}
	c.pairs.Add(a, b)
	c.joint.add(gold, own, other)
	if c.Version != nil {
		c.disputes.add(at, c.count.labels, gold, own, other)
	}
	if row.Language != "" {
		ofLanguage(c.languages, row.Language).Add(a, b)
	}
	if n := utf8.RuneCountInString(row.Text); n > 0 {
		c.lengths[lengthSlice(n)].Add(a, b)
	}
}

func (c *contest) baseline() Baseline {
	b := Baseline{
		Name:       c.Name,
		Parameters: c.Parameters,
		Metrics:    c.count.Metrics(),
		Difference: c.pairs.Difference(),
		Pairing:    c.pairs,
		P:          c.pairs.McNemar(),
		Agreement:  Wilson(c.alike, c.pairs.N),

		Differences: c.joint.differences(len(c.count.labels)),
	}
	if c.Version == nil {
		return b
	}
	b.Model, b.SizeBytes = c.Version.Model, c.Version.SizeBytes
	b.RowsPerSecond, b.CPUSecondsPerThousand = c.used.rowsPerSecond(c.pairs.N), c.used.cpuPerThousand(c.pairs.N)
	pairs := make(map[string]Pairing, len(c.languages)+len(c.lengths))
	for _, language := range slices.Sorted(maps.Keys(c.languages)) {
		pairs["language="+language] = *c.languages[language]
	}
	for i, p := range c.lengths {
		pairs["length="+lengthNames[i]] = p
	}
	var p []float64
	for _, s := range c.count.Slices() {
		pair := pairs[s.Name]
		p = append(p, pair.McNemar())
		b.Slices = append(b.Slices, Contrast{Slice: s, Difference: pair.Difference(), Pairing: pair, P: pair.McNemar()})
	}
	for i, adjusted := range holm(p) {
		b.Slices[i].PAdjusted = adjusted
	}
	b.Disagreements = c.disputes.list()
	return b
}
