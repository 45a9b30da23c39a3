package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"galley/evals"
)

// printContests writes, for people, how a version compares with the others
// that answered the same rows.
func printContests(w io.Writer, r *evals.Report) {
	for _, b := range r.Baselines {
		if b.Model == "" || b.Disagreements == nil {
			continue
		}
		fmt.Fprintf(w, "  %s against %s: %.1f %% of the answers agree\n", r.Ref, b.Name, 100*b.Agreement.Value)
		for _, name := range []string{evals.Accuracy, evals.MacroF1} {
			if m, ok := b.Differences[name]; ok {
				fmt.Fprintf(w, "    %-10s %+.4f  (95 %% %+.4f to %+.4f)\n", name, m.Value, m.Low, m.High)
			}
		}
		fmt.Fprintf(w, "    McNemar    p %.3g: %s alone is right on %d rows, %s alone on %d\n", b.P, r.Ref, b.Pairing.OnlyA, b.Name, b.Pairing.OnlyB)
		fmt.Fprintf(w, "    a thousand rows take %.4g CPU seconds, and %.4g of %s\n", r.Resources.CPUSecondsPerThousand, b.CPUSecondsPerThousand, b.Name)
		printContrasts(w, b)
		printDisagreements(w, r.Ref, b)
	}
}

// printContrasts writes the slices on which two versions differ at 5 % among
// all slices.
func printContrasts(w io.Writer, b evals.Baseline) {
	differ := 0
	for _, s := range b.Slices {
		if s.PAdjusted < .05 {
			differ++
			fmt.Fprintf(w, "    differs on %s (%d rows): accuracy %+.4f (95 %% %+.4f to %+.4f), p %.3g, for %d slices %.3g\n",
				s.Name, s.N, s.Difference.Value, s.Difference.Low, s.Difference.High, s.P, len(b.Slices), s.PAdjusted)
		}
	}
	if differ == 0 {
		fmt.Fprintf(w, "    no slice of %d shows a difference of accuracy (5 %% among all of them)\n", len(b.Slices))
	}
}

// shownDisagreements is how many rows of each kind people are shown.
const shownDisagreements = 5

func printDisagreements(out io.Writer, ref string, b evals.Baseline) {
	d := b.Disagreements
	if d.N == 0 {
		fmt.Fprintln(out, "    both answer every row alike")
		return
	}
	fmt.Fprintf(out, "    %d rows are answered differently, for example\n", d.N)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, kind := range []struct {
		title string
		rows  []evals.Disagreement
	}{{ref + " alone is right", d.OnlyModel}, {b.Name + " alone is right", d.OnlyOther}, {"neither is right", d.Neither}} {
		for _, at := range kind.rows[:min(len(kind.rows), shownDisagreements)] {
			place := at.Place
			if place == "" {
				place = fmt.Sprintf("row %d", at.Row)
			}
			fmt.Fprintf(w, "      %s\t%s\tlabel %s\t%s, not %s\t%s\n", kind.title, place, at.Label, at.Answer, at.Other, oneLine(at.Text))
		}
	}
	w.Flush()
}
