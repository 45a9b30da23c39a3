package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"galley/evals"
)

// printRobustness writes for people how a version, and those that it is compared
// with, answer changed texts.
func printRobustness(out io.Writer, r *evals.Report) error {
	if r.Robustness == nil {
		return nil
	}
	fmt.Fprintf(out, "  changed texts (seed %d)\n", r.Robustness.Seed)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range r.Robustness.Perturbations {
		if p.N == 0 {
			fmt.Fprintf(w, "    %s\tchanges no row\n", p.Name)
			continue
		}
		fmt.Fprintf(w, "    %s\taccuracy %.4f (95 %% %.4f to %.4f)\tfalls by %+.4f (95 %% %+.4f to %+.4f)\t%.1f %% of the answers change\t%d rows\n",
			p.Name, p.Accuracy.Value, p.Accuracy.Low, p.Accuracy.High, p.Drop.Value, p.Drop.Low, p.Drop.High, 100*p.Changed.Value, p.N)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, b := range r.Baselines {
		if err := printRobustnessBeside(out, r.Ref, b); err != nil {
			return err
		}
	}
	return nil
}

func printRobustnessBeside(out io.Writer, ref string, b evals.Baseline) error {
	if len(b.Robustness) == 0 {
		return nil
	}
	fmt.Fprintf(out, "  the same texts, changed, of %s; %s less it\n", b.Name, ref)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range b.Robustness {
		if p.N == 0 {
			continue // said above
		}
		fmt.Fprintf(w, "    %s\taccuracy %.4f\tfalls by %+.4f\tdifference %+.4f (95 %% %+.4f to %+.4f)\n",
			p.Name, p.Accuracy.Value, p.Drop.Value, p.Difference.Value, p.Difference.Low, p.Difference.High)
	}
	return w.Flush()
}
