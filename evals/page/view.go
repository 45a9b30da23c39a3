package page

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"galley/evals"
)

// What of long reports a page shows.
const (
	mostSlices   = 60
	mostLabels   = 100
	mostMistakes = 12
	mostOthers   = 8
	mostRows     = 20 // of each kind that two versions answer differently
)

// A view is what the template writes of a report.
type view struct {
	*evals.Report
	Rows        string // what it was measured on
	Figures     []namedFigure
	Reliability *ReliabilityPlot
	SlicePlot   *IntervalPlot
	Slices      []evals.Slice // shown
	Heatmap     *Heatmap
	Labels      []evals.LabelScore // the weakest first
	Robust      *IntervalPlot
	Latency     *LatencyPlot
	Contests    []contest
	Confused    []evals.ConfusedPair
}

// A namedFigure is a metric as people know it.
type namedFigure struct {
	Name, What string
	evals.Metric
	Share bool // a percentage
}

// A contest is another model on the same rows.
type contest struct {
	evals.Baseline
	Ref    string  // the version of the report
	CPU    float64 // seconds a thousand rows take it
	ID     string
	Plot   *IntervalPlot
	Differ []evals.Contrast // slices that differ at 5 % among all
	Kinds  []disagreeing
	Texts  bool // of rows are shown
}

// disagreeing are rows of one kind that two models answer differently.
type disagreeing struct {
	Title string
	Rows  []evals.Disagreement
}

// metricNames are the metrics in the order of the page.
var metricNames = []struct {
	key, name, what string
	share           bool
}{
	{evals.Accuracy, "Accuracy", "share of right answers", true},
	{evals.MacroF1, "Macro-F1", "mean F1 of the labels that occur", true},
	{evals.Loss, "Loss", "mean negative logarithm of the right label's probability", false},
	{evals.ECE, "Calibration error", "mean distance of confidence and accuracy", true},
	{evals.Agreement, "Agreement", "share of answers that are those of the other version", true},
}

func newView(r *evals.Report) *view {
	v := &view{Report: r, Rows: rowsOf(r.Dataset)}
	known := map[string]bool{}
	for _, m := range metricNames {
		known[m.key] = true
		if x, ok := r.Metrics[m.key]; ok {
			v.Figures = append(v.Figures, namedFigure{m.name, m.what, x, m.share})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.Metrics)) {
		if !known[key] {
			v.Figures = append(v.Figures, namedFigure{Name: key, Metric: r.Metrics[key]})
		}
	}
	v.Reliability = newReliabilityPlot(r.Calibration, r.Metrics[evals.ECE])
	v.Slices = r.Slices[:min(len(r.Slices), mostSlices)]
	v.SlicePlot = slicePlot(r, v.Slices)
	v.Heatmap = newHeatmap(r.Confusion)
	mistakes := mostMistakes
	if v.Heatmap == nil { // there is nothing else to see them on
		mistakes = evals.MaxConfusedPairs
	}
	v.Confused = r.Confused[:min(len(r.Confused), mistakes)]
	v.Labels = weakest(r.Labels)
	v.Robust = robustPlot(r.Robustness)
	v.Latency = newLatencyPlot(r.LatencyMS)
	for i, b := range r.Baselines[:min(len(r.Baselines), mostOthers)] {
		v.Contests = append(v.Contests, newContest(i, r, b))
	}
	return v
}

// rowsOf names the rows that a report is about.
func rowsOf(d evals.Data) string {
	name := d.Name
	if d.Version > 0 {
		name = fmt.Sprintf("%s@%d", name, d.Version)
	}
	if d.Split != "" {
		name += ", split " + d.Split
	}
	return name
}

// weakest returns the labels with the lowest F1 first, those without rows last.
func weakest(labels []evals.LabelScore) []evals.LabelScore {
	out := slices.Clone(labels)
	slices.SortStableFunc(out, func(a, b evals.LabelScore) int {
		none := func(l evals.LabelScore) int { return map[bool]int{true: 1}[l.N == 0] }
		return cmp.Or(cmp.Compare(none(a), none(b)), cmp.Compare(a.F1, b.F1))
	})
	return out[:min(len(out), mostLabels)]
}

// slicePlot has the accuracy of all rows and of each slice, beside that of the
// first other version, if there is one.
func slicePlot(r *evals.Report, shown []evals.Slice) *IntervalPlot {
	p := IntervalPlot{ID: "slices", Title: "Accuracy by slice", AxisLabel: "accuracy, %, with 95 % interval", Series: []Series{{r.Ref, "a"}},
		Desc: fmt.Sprintf("Accuracy of all rows and of %d slices, each with its 95 %% interval; the table below has the figures.", len(shown))}
	other := map[string]evals.Metric{}
	for _, b := range r.Baselines {
		if b.Model == "" {
			continue
		}
		p.Series = append(p.Series, Series{b.Name, "b"})
		other[""] = b.Metrics[evals.Accuracy]
		for _, s := range b.Slices {
			other[s.Name] = s.Metrics[evals.Accuracy]
		}
		break
	}
	var lines []line
	add := func(label, slice string, m evals.Metric) {
		l := line{label: label, marks: []evals.Metric{m}}
		if len(p.Series) > 1 {
			l.marks = append(l.marks, other[slice])
		}
		lines = append(lines, l)
	}
	add("all rows", "", r.Metrics[evals.Accuracy])
	for _, s := range shown {
		add(s.Name, s.Name, s.Metrics[evals.Accuracy])
	}
	return newIntervalPlot(p, lines, false)
}

func robustPlot(r *evals.Robustness) *IntervalPlot {
	if r == nil {
		return nil
	}
	p := IntervalPlot{ID: "robustness", Title: "Accuracy on changed texts", AxisLabel: "accuracy, %, with 95 % interval",
		Series: []Series{{"as they are", "b"}, {"changed", "a"}},
		Desc:   "For each change of the texts, accuracy on the rows that it changes, as they are and changed, with 95 % intervals; the table below has the figures."}
	var lines []line
	for _, x := range r.Perturbations {
		if x.N > 0 {
			lines = append(lines, line{x.Name, []evals.Metric{x.Clean, x.Accuracy}})
		}
	}
	return newIntervalPlot(p, lines, false)
}

func newContest(i int, r *evals.Report, b evals.Baseline) contest {
	c := contest{Baseline: b, Ref: r.Ref, CPU: r.Resources.CPUSecondsPerThousand, ID: fmt.Sprintf("against-%d", i+1)}
	p := IntervalPlot{ID: c.ID + "-plot", Title: "Difference of accuracy", AxisLabel: "percentage points, with 95 % interval; to the right " + r.Ref + " is better",
		Series: []Series{{"difference", "a"}},
		Desc:   fmt.Sprintf("Accuracy of %s minus that of %s, of all rows and by slice, with 95 %% intervals; right of zero %s is better.", r.Ref, b.Name, r.Ref)}
	lines := []line{{"all rows", []evals.Metric{b.Difference}}}
	for _, s := range b.Slices {
		if s.PAdjusted < .05 {
			c.Differ = append(c.Differ, s)
		}
	}
	c.Slices = b.Slices[:min(len(b.Slices), mostSlices)]
	for _, s := range c.Slices {
		lines = append(lines, line{s.Name, []evals.Metric{s.Difference}})
	}
	c.Plot = newIntervalPlot(p, lines, true)
	if d := b.Disagreements; d != nil {
		for _, kind := range []disagreeing{{r.Ref + " alone is right", d.OnlyModel}, {b.Name + " alone is right", d.OnlyOther}, {"Neither is right", d.Neither}} {
			if len(kind.Rows) == 0 {
				continue
			}
			kind.Rows = kind.Rows[:min(len(kind.Rows), mostRows)]
			c.Kinds = append(c.Kinds, kind)
			c.Texts = c.Texts || slices.ContainsFunc(kind.Rows, func(at evals.Disagreement) bool { return at.Text != "" })
		}
	}
	return c
}
