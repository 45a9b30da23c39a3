package experiment

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"galley"
)

// A Metric names what the outcomes of an experiment are of: each is a number
// from 0 to 1, and an arm's figure is their mean.
type Metric string

// Accuracy is the share of predictions whose label was right. Its outcomes are
// right labels, or say whether the label was right.
const Accuracy Metric = "accuracy"

// Agreement is how often a shadow gives the label that the control gives. No
// outcomes are sent for it.
const Agreement Metric = "agreement"

// higher and lower are the metrics, by what is better.
var (
	higher = []Metric{Accuracy, "acceptance", Agreement, "click", "conversion", "engagement", "rating", "success"}
	lower  = []Metric{"complaint", "correction", "error", "rejection"}
)

// ParseMetric returns the metric of a name; "clicks" and "click-rate" stand for
// "click".
func ParseMetric(s string) (Metric, error) {
	name := strings.ToLower(s)
	if name == "ctr" { // the click-through rate
		name = "click"
	}
	for _, suffix := range []string{"_rate", "-rate", "s"} {
		if m := Metric(strings.TrimSuffix(name, suffix)); name != string(m) && m.known() {
			return m, nil
		}
	}
	if m := Metric(name); m.known() {
		return m, nil
	}
	var names []string
	for _, m := range slices.Concat(higher, lower) {
		names = append(names, string(m))
	}
	return "", galley.Errorf(galley.InvalidArgument, "metric", "%q is not a metric of experiments", galley.Clip(s, 80)).
		WithRemedy("choose one of %s", strings.Join(names, ", "))
}

func (m Metric) known() bool { return slices.Contains(higher, m) || slices.Contains(lower, m) }

// LowerIsBetter reports whether the better arm has less of the metric.
func (m Metric) LowerIsBetter() bool { return slices.Contains(lower, m) }

// words are outcomes that people write.
var words = map[string]float64{"true": 1, "yes": 1, "false": 0, "no": 0}

// maxOutcome bounds the text of an outcome, in bytes: a label's.
const maxOutcome = 256

// Value reads an outcome. predicted is the label that was given, empty if that
// is not known; labels are those of the version, none if it has none or was
// deleted.
func (m Metric) Value(outcome, predicted string, labels []string) (float64, error) {
	if len(outcome) > maxOutcome {
		return 0, galley.Errorf(galley.InvalidArgument, "outcome", "has %d bytes", len(outcome)).WithRemedy("send at most %d", maxOutcome)
	}
	if m == Accuracy && slices.Contains(labels, outcome) {
		if predicted == "" {
			return 0, galley.Errorf(galley.InvalidArgument, "outcome", "the prediction answered several texts, so no one label is right").
				WithRemedy("ask for one text a request, or send true or false")
		}
		if outcome == predicted {
			return 1, nil
		}
		return 0, nil
	}
	if v, ok := words[strings.ToLower(outcome)]; ok {
		return v, nil
	}
	v, err := strconv.ParseFloat(outcome, 64)
	if err == nil && !math.IsNaN(v) && v >= 0 && v <= 1 {
		return v, nil
	}
	e := galley.Errorf(galley.InvalidArgument, "outcome", "%q is not an outcome of metric %s", galley.Clip(outcome, 80), m)
	switch {
	case m == Accuracy && len(labels) == 0:
		return 0, galley.Errorf(galley.FailedPrecondition, "outcome", "%q cannot be held against the answer: the version that gave it has no labels, or was deleted", galley.Clip(outcome, 80)).
			WithRemedy("send true if the answer was right, and false if not")
	case m == Accuracy:
		return 0, e.WithRemedy("send the right label (%s), true or false, or a number from 0 to 1", some(labels))
	}
	return 0, e.WithRemedy("send true or false, or a number from 0 to 1")
}

// some names the first labels.
func some(labels []string) string {
	const most = 5
	var quoted []string
	for _, label := range labels[:min(most, len(labels))] {
		quoted = append(quoted, strconv.Quote(galley.Clip(label, 40)))
	}
	s := strings.Join(quoted, ", ")
	if len(labels) > most {
		s += " and others"
	}
	return s
}
