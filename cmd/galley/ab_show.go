package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	controlpb "galley/api/control/v1"
)

// An experimentJSON is an experiment as programs read it.
type experimentJSON struct {
	Experiment  string              `json:"experiment"`
	Model       string              `json:"model"`
	State       string              `json:"state"`
	Metric      string              `json:"metric"`
	Unit        string              `json:"unit"`
	Arms        []experimentArmJSON `json:"arms"`
	Verdict     string              `json:"verdict"`
	Difference  []float64           `json:"difference"`
	SampleRatio sampleRatioJSON     `json:"sample_ratio"`
	Warnings    []string            `json:"warnings"`
	Traffic     string              `json:"traffic"`
	Guardrails  []string            `json:"guardrails"`
	Unjudged    string              `json:"unjudged,omitempty"` // why guardrails do not judge now
	Canary      []float64           `json:"canary,omitempty"`
	Next        *time.Time          `json:"next,omitempty"`
	Shadow      float64             `json:"shadow,omitempty"`
	Budget      float64             `json:"budget,omitempty"`
	Breach      *experimentBreach   `json:"breach,omitempty"`
	Winner      string              `json:"winner,omitempty"`
	Forced      bool                `json:"forced,omitempty"`
	Reason      string              `json:"reason,omitempty"`
	By          string              `json:"by"`
	Started     time.Time           `json:"started"`
	Ended       *time.Time          `json:"ended,omitempty"`
}

type experimentArmJSON struct {
	Arm      string    `json:"arm"`
	Ref      string    `json:"ref"`
	Share    float64   `json:"share"`
	N        int64     `json:"n"`
	Metric   *float64  `json:"metric"`
	Interval []float64 `json:"interval"`
	Requests int64     `json:"requests"`
	Errors   int64     `json:"errors"`
	Empty    int64     `json:"empty"`
	Outcomes int64     `json:"outcomes"`
	Keys     int64     `json:"keys"`
}

type sampleRatioJSON struct {
	P        float64 `json:"p"`
	Mismatch bool    `json:"mismatch"`
}

type experimentBreach struct {
	Guardrail string    `json:"guardrail"`
	Value     float64   `json:"value"`
	At        time.Time `json:"at"`
}

func experimentOf(e *controlpb.Experiment) experimentJSON {
	out := experimentJSON{
		Experiment: e.GetExperiment(), Model: e.GetModel(), State: e.GetState(), Metric: e.GetMetric(), Unit: e.GetUnit(), Arms: []experimentArmJSON{},
		Verdict: e.GetVerdict(), Difference: e.GetDifference(), SampleRatio: sampleRatioJSON{e.GetSampleRatioP(), e.GetSampleRatioMismatch()},
		Warnings: append([]string{}, e.GetWarnings()...), Traffic: e.GetTraffic(), Guardrails: append([]string{}, e.GetGuardrails()...),
		Winner: e.GetWinner(), Forced: e.GetForced(), Reason: e.GetReason(), By: e.GetBy(), Started: e.GetStarted().AsTime(),
	}
	for _, arm := range e.GetArms() {
		out.Arms = append(out.Arms, experimentArmJSON{
			Arm: arm.GetArm(), Ref: arm.GetRef(), Share: arm.GetShare(), N: arm.GetN(), Metric: arm.Metric, Interval: arm.GetInterval(),
			Requests: arm.GetRequests(), Errors: arm.GetErrors(), Empty: arm.GetEmpty(), Outcomes: arm.GetOutcomes(), Keys: arm.GetKeys(),
		})
	}
	if b := e.GetBreach(); b != nil {
		out.Breach = &experimentBreach{b.GetGuardrail(), b.GetValue(), b.GetAt().AsTime()}
	}
	out.Unjudged = unjudged(e)
	out.Canary, out.Shadow, out.Budget = e.GetCanary(), e.GetShadow(), e.GetBudget()
	if e.GetNext() != nil {
		at := e.GetNext().AsTime()
		out.Next = &at
	}
	if e.GetEnded() != nil {
		at := e.GetEnded().AsTime()
		out.Ended = &at
	}
	return out
}

// armsOf are the two arms of an experiment.
func armsOf(e *controlpb.Experiment) (control, treatment *controlpb.ExperimentArm) {
	for _, arm := range e.GetArms() {
		switch arm.GetArm() {
		case "control":
			control = arm
		case "treatment":
			treatment = arm
		}
	}
	return control, treatment
}

func sharesOf(e *controlpb.Experiment) string {
	control, treatment := armsOf(e)
	return fmt.Sprintf("%.4g/%.4g", 100*control.GetShare(), 100*treatment.GetShare())
}

// verdictOf is the winner, or the verdict so far.
func verdictOf(e *controlpb.Experiment) string {
	if e.GetWinner() != "" {
		return e.GetWinner()
	}
	return e.GetVerdict()
}

func (a *app) printExperiment(e *controlpb.Experiment) {
	if a.json {
		a.printJSON(experimentOf(e))
		return
	}
	fmt.Fprintf(a.out, "%s  %s  %s of %s, per %s\n", e.GetExperiment(), e.GetState(), e.GetMetric(), e.GetModel(), e.GetUnit())
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  ARM\tVERSION\tSHARE\tREQUESTS\tERRORS\tEMPTY\tN\tRATE\tINTERVAL")
	for _, arm := range e.GetArms() {
		rate, interval := "-", "-"
		if arm.Metric != nil {
			rate, interval = fmt.Sprintf("%.4f", arm.GetMetric()), intervalOf(arm.GetInterval())
		}
		fmt.Fprintf(w, "  %s\t%s\t%.4g %%\t%d\t%d\t%d\t%d\t%s\t%s\n", arm.GetArm(), arm.GetRef(), 100*arm.GetShare(),
			arm.GetRequests(), arm.GetErrors(), arm.GetEmpty(), arm.GetN(), rate, interval)
	}
	// The writer writes to memory or a terminal.
	_ = w.Flush()
	switch {
	case e.GetWinner() != "" && e.GetForced():
		fmt.Fprintf(a.out, "decided by force: %s (%s)\n", e.GetWinner(), e.GetReason())
	case e.GetWinner() != "":
		fmt.Fprintf(a.out, "decided: %s\n", e.GetWinner())
	}
	fmt.Fprintf(a.out, "verdict: %s; difference %s, at all times with 95 %%\n", e.GetVerdict(), intervalOf(e.GetDifference()))
	if b := e.GetBreach(); b != nil {
		fmt.Fprintf(a.out, "rolled back: %s, and the treatment had %.4g\n", b.GetGuardrail(), b.GetValue())
	}
	fmt.Fprintf(a.out, "traffic goes to %s; guardrails: %s\n", e.GetTraffic(), strings.Join(orNone(e.GetGuardrails()), ", "))
	if why := unjudged(e); why != "" {
		fmt.Fprintf(a.out, "the guardrails had %s\n", why)
	}
	if e.GetShadow() > 0 {
		fmt.Fprintf(a.out, "the treatment is asked %.4g %% of the requests, and may take %.4g %% of the machine\n", 100*e.GetShadow(), 100*e.GetBudget())
	}
	if e.GetNext() != nil {
		fmt.Fprintf(a.out, "the treatment may get more from %s on\n", e.GetNext().AsTime().Local().Format(time.DateTime))
	}
	for _, warning := range e.GetWarnings() {
		fmt.Fprintf(a.out, "warning: %s\n", warning)
	}
}

// unjudged says why no guardrail of a running experiment judges now; it is empty
// if they do, or there are none.
func unjudged(e *controlpb.Experiment) string {
	if e.GetState() != "running" || len(e.GetGuardrails()) == 0 || e.GetRecentRequests() >= int64(e.GetMinimumRequests()) {
		return ""
	}
	return fmt.Sprintf("too few requests of the treatment to judge: %d of %d in %s",
		e.GetRecentRequests(), e.GetMinimumRequests(), e.GetWindow().AsDuration())
}

func intervalOf(ends []float64) string {
	if len(ends) != 2 {
		return "-"
	}
	return fmt.Sprintf("[%.4f, %.4f]", ends[0], ends[1])
}

func orNone(names []string) []string {
	if len(names) == 0 {
		return []string{"none"}
	}
	return names
}
