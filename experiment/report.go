package experiment

import (
	"fmt"
	"math"
)

// Alpha is the chance of a false verdict, and of an interval that ever misses,
// that is allowed for.
const Alpha = 0.05

// A Verdict says which arm is better.
type Verdict string

// The verdicts.
const (
	ForControl   Verdict = "control"
	ForTreatment Verdict = "treatment"
	Undecided    Verdict = "undecided"
)

// Totals are what was counted for one arm in one stage.
type Totals struct {
	Counts
	Outcomes Tally // of predictions
	Keys     Tally // the first of each request key
}

// counted are the outcomes that count.
func (t Totals) counted(u Unit) Tally {
	if u == PerKey {
		return t.Keys
	}
	return t.Outcomes
}

// An ArmReport is an arm's part of a report.
type ArmReport struct {
	Totals
	Counted Tally    // outcomes or first outcomes, as the experiment's unit has it
	Rate    Interval // for the mean of Counted's outcomes
}

// A Report is what an experiment has come to.
type Report struct {
	Arms       [2]ArmReport
	Difference Interval // of the rates, treatment less control
	Verdict    Verdict
	// MismatchP is an always-valid p-value of the planned shares: how often
	// keys with outcomes would be split as unevenly, or ever more so.
	MismatchP float64
	Mismatch  bool
	Warnings  []string
}

// Judge returns what totals, by stage and arm, say of an experiment.
func Judge(e Experiment, totals [][2]Totals) Report {
	var r Report
	counts := make([][2]int64, len(totals))
	strata := make(Strata, len(totals))
	for i, stage := range totals {
		for _, a := range Arms {
			t := &r.Arms[a].Totals
			t.Requests += stage[a].Requests
			t.Errors += stage[a].Errors
			t.Empty += stage[a].Empty
			t.Outcomes = t.Outcomes.Plus(stage[a].Outcomes)
			t.Keys = t.Keys.Plus(stage[a].Keys)
			counts[i][a] = int64(stage[a].Keys.N)
			strata[i][a] = stage[a].counted(e.Unit)
		}
	}
	for _, a := range Arms {
		arm := &r.Arms[a]
		arm.Counted = arm.counted(e.Unit)
		arm.Rate = arm.Counted.Rate(Alpha)
	}
	var fits bool
	r.Difference, fits = NewContrast(e.Stages[0].Share(Treatment)).Difference(strata, Alpha)
	if !fits {
		r.Warnings = append(r.Warnings, "the difference of the arms changed with their shares, so that there is no one to name: look at a time with the same shares in an experiment of its own")
	}
	r.Verdict = verdict(r.Difference, e.Metric)
	r.MismatchP = math.Exp(-max(RatioEvidence(e.Stages, counts), 0))
	r.Mismatch = r.MismatchP < MismatchAlpha
	r.warn(e)
	return r
}

func verdict(d Interval, m Metric) Verdict {
	better, worse := ForTreatment, ForControl
	if m.LowerIsBetter() {
		better, worse = worse, better
	}
	switch {
	case d.Low > 0:
		return better
	case d.High < 0:
		return worse
	default:
		return Undecided
	}
}

// warn says what makes the figures doubtful.
func (r *Report) warn(e Experiment) {
	c, t := r.Arms[Control], r.Arms[Treatment]
	if r.Mismatch {
		r.Warnings = append(r.Warnings, fmt.Sprintf(
			"sample-ratio mismatch: outcomes came from %.0f keys of control and %.0f of treatment, which a split of %s gives with p = %.2g: outcomes of one arm are missing, so the verdict may be wrong",
			c.Keys.N, t.Keys.N, FormatSplit(e.Stage().Treatment), r.MismatchP))
	}
	outcomes, keys := c.Outcomes.N+t.Outcomes.N, c.Keys.N+t.Keys.N
	const often = 1.1 // outcomes a key, from which on they no longer count as independent
	if e.Unit == PerOutcome && outcomes > often*keys {
		r.Warnings = append(r.Warnings, fmt.Sprintf(
			"%.0f outcomes came from %.0f request keys: outcomes of one key are alike, so the intervals are too narrow; --unit key counts each key once", outcomes, keys))
	}
}

// Evidence writes a report's figures in a line, for the record.
func (r Report) Evidence(e Experiment) string {
	arm := func(a Arm) string {
		t := r.Arms[a]
		if t.Counted.N == 0 {
			return fmt.Sprintf("%s %s has no outcomes", a, e.Ref(a))
		}
		return fmt.Sprintf("%s %s %.4f [%.4f, %.4f] of %.0f", a, e.Ref(a), t.Counted.Mean(), t.Rate.Low, t.Rate.High, t.Counted.N)
	}
	return fmt.Sprintf("%s: %s, %s, difference [%.4f, %.4f], verdict %s, sample ratio p = %.2g",
		e.Metric, arm(Control), arm(Treatment), r.Difference.Low, r.Difference.High, r.Verdict, r.MismatchP)
}
