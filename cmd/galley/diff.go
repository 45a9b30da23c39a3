package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/registry/diff"
)

func (a *app) modelsDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff REF REF", Short: "Say in what two versions differ",
		Long:    "Say in what two versions differ: files, graph, weights, data, spec, lineage, and metrics on the same rows.",
		Example: "  galley models diff news-topic@1 news-topic@2\n  galley models diff news-topic:prod news-topic:candidate -o json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.DiffVersions(cmd.Context(), &controlpb.DiffVersionsRequest{A: args[0], B: args[1]})
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(r.GetDiff().AsMap())
					return nil
				}
				data, err := r.GetDiff().MarshalJSON()
				var d diff.Diff
				var sides struct{ A, B diff.Side }
				if err == nil {
					err = json.Unmarshal(data, &d)
				}
				if err == nil {
					err = json.Unmarshal(data, &sides)
				}
				if err != nil {
					return galley.Errorf(galley.Internal, "diff", "the answer cannot be understood: %w", err)
				}
				d.A, d.B = sides.A, sides.B
				return printDiff(a.out, d)
			})
		},
	}
}

// shownTensors is how many changed tensors people are shown.
const shownTensors = 10

// printDiff writes a diff for people.
func printDiff(out io.Writer, d diff.Diff) error {
	fmt.Fprintf(out, "%s  %s\n%s  %s\n", d.A.Ref, d.A.Digest, d.B.Ref, d.B.Digest)
	if d.Same {
		fmt.Fprintln(out, "the two have the same content")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	section := func(title string, fields []diff.Field) {
		if len(fields) > 0 {
			fmt.Fprintf(w, "%s\n", title)
		}
		for _, f := range fields {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", f.Name, absent(f.A), absent(f.B))
		}
	}
	if len(d.Metrics) > 0 {
		fmt.Fprintln(w, "metrics on the same rows")
	}
	for _, m := range d.Metrics {
		fmt.Fprintf(w, "  %s %s\t%s\t%.4f\t%.4f\t%+.4f\n", m.Dataset, m.Split, m.Name, m.A, m.B, m.Difference)
	}
	section("spec", d.Spec)
	section("data", d.Data)
	section("labels", d.Labels)
	section("lineage", d.Lineage)
	section("files", d.Files)
	if d.Graph != nil {
		printGraphDiff(w, d.Graph, section)
	}
	return w.Flush()
}

func printGraphDiff(w io.Writer, g *diff.Graph, section func(string, []diff.Field)) {
	fmt.Fprintf(w, "graph\n  nodes\t%d\t%d\n  parameters\t%d\t%d\n", g.Nodes.A, g.Nodes.B, g.Parameters.A, g.Parameters.B)
	for _, c := range g.Operators {
		fmt.Fprintf(w, "  %s\t%d\t%d\n", c.Operator, c.A, c.B)
	}
	section("signature", g.Signature)
	x := g.Weights
	fmt.Fprintf(w, "weights\n  tensors the same\t%d\n  changed\t%d\t%d elements\n", x.Same, len(x.Changed)+x.Unlisted, x.Elements)
	if x.Norm > 0 {
		fmt.Fprintf(w, "  norm of the difference\t%.4g\tof %.4g\n", x.Norm, x.Reference)
	}
	for _, t := range x.Changed[:min(len(x.Changed), shownTensors)] {
		fmt.Fprintf(w, "  %s\t%s\t%d of %d changed\tnorm %.4g, %.3g of its own\n", t.Name, t.Shape, t.Changed, t.Elements, t.Norm, t.Relative)
	}
	if more := len(x.Changed) + x.Unlisted - shownTensors; more > 0 {
		fmt.Fprintf(w, "  … %d more; -o json lists them\n", more)
	}
	for _, only := range []struct {
		title   string
		tensors []diff.Tensor
	}{{"only in the first", x.OnlyA}, {"only in the second", x.OnlyB}} {
		for _, t := range only.tensors {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", t.Name, t.Shape, only.title)
		}
	}
	section("of another shape", x.Reshaped)
}

func absent(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
