package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"galley/evals"
)

// printRobustness writes for people how a version answers changed texts.
func printRobustness(out io.Writer, r *evals.Robustness) error {
	if r == nil {
		return nil
	}
	fmt.Fprintf(out, "  changed texts (seed %d)\n", r.Seed)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range r.Perturbations {
		if p.N == 0 {
			fmt.Fprintf(w, "    %s\tchanges no row\n", p.Name)
			continue
		}
		fmt.Fprintf(w, "    %s\taccuracy %.4f (95 %% %.4f to %.4f)\tfalls by %+.4f (95 %% %+.4f to %+.4f)\t%.1f %% of the answers change\t%d rows\n",
			p.Name, p.Accuracy.Value, p.Accuracy.Low, p.Accuracy.High, p.Drop.Value, p.Drop.Low, p.Drop.High, 100*p.Changed.Value, p.N)
	}
	return w.Flush()
}
