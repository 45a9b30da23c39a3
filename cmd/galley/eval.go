package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/evals"
)

func (a *app) evalCommand() *cobra.Command {
	var data, split, format, columns, against, html string
	var baseline, showTexts, robustness bool
	var seed uint32
	var price float64
	c := &cobra.Command{
		Use: "eval REF --data PATH_OR_NAME", Short: "Measure a version on data",
		Long: `Measure a version on a split of a registered dataset, or on a file. The report is
kept with the version.

If another version is in production, both answer the same rows, and the report
says what the gate of alias prod would: exit code 0 also if it would refuse.

With --against a second version answers the same rows, too: the report has the
differences with intervals, on which slices the two differ, and which rows they
answer differently. Those rows are named by number; --show-texts adds their
texts to the answer, never to the report that is kept.

--html writes the report as one page with plots, which needs nothing else.

With --robustness each text is asked again with typing errors, in other casing,
in the other Chinese script and with other numbers: the report has accuracy,
its fall on the same rows, and the share of answers that changed, for each. Of a
second version, too.`,
		Example: "  galley eval news-topic@2 --data headlines --split test\n  galley eval news-topic@2 --data fresh.csv --format csv\n  galley eval news-topic@2 --data headlines --baseline\n  galley eval news-topic@2 --against news-topic@1 --data headlines --show-texts\n  galley eval news-topic@2 --data headlines --robustness\n  galley eval news-topic@2 --data headlines --cpu-hour-price 0.04\n  galley eval news-topic@2 --data headlines --robustness --html report.html",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.HasSuffix(args[0], ".yaml") || strings.HasSuffix(args[0], ".yml") {
				return galley.Errorf(galley.InvalidArgument, args[0], "is a file; a measurement in one is a step of a pipeline").
					WithRemedy("write galley eval REF --data …, or galley train with a file of kind: Pipeline")
			}
			if data == "" {
				return usagef("eval: give --data, a registered dataset or a file; see galley eval --help")
			}
			switch {
			case showTexts && against == "":
				return usagef("eval: --show-texts goes with --against")
			case seed != 0 && !robustness:
				return usagef("eval: --seed goes with --robustness")
			}
			header := &controlpb.EvaluateHeader{Ref: args[0], Split: split, Columns: columns, Baseline: baseline, Against: against, ShowTexts: showTexts,
				Robustness: robustness, Seed: seed, CpuHourPrice: price}
			path := ""
			if _, err := os.Stat(data); err == nil {
				path = data
				if header.Format, err = formatOf(format, data); err != nil {
					return err
				}
			} else {
				header.Dataset = data
			}
			return a.with(cmd.Context(), func(c *client) error {
				r, err := evaluate(cmd.Context(), c.control, header, path)
				if err != nil {
					return err
				}
				report, err := decodeReport(r)
				if err != nil {
					return err
				}
				if html != "" {
					if err := writePage(html, report, showTexts); err != nil {
						return err
					}
				}
				if a.json {
					a.printJSON(r.GetReport().AsMap())
					return nil
				}
				printReport(a.out, r.GetReport().AsMap(), "")
				printCost(a.out, report.Resources)
				printContests(a.out, report)
				return printRobustness(a.out, report)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&data, "data", "", "a registered dataset (name or name@version), or a file (required)")
	f.StringVar(&split, "split", "", "train, valid or test; test if not given")
	f.Var(formatFlag(&format), "format", "of a file: csv, jsonl or parquet")
	f.Var(columnsFlag(&columns), "columns", "of a file: text=title+description,label=label")
	f.BoolVar(&baseline, "baseline", false, "fit TF-IDF with logistic regression on the dataset's train beside it")
	f.StringVar(&against, "against", "", "another version, to answer the same rows")
	f.BoolVar(&showTexts, "show-texts", false, "with --against: show texts that the two answer differently")
	f.BoolVar(&robustness, "robustness", false, "ask again with typing errors, other casing, the other Chinese script, other numbers")
	f.Float64Var(&price, "cpu-hour-price", 0, "of one processor: the report says what a thousand rows cost")
	f.StringVar(&html, "html", "", "write the report as a page to this file, in the place of what is there")
	f.Uint32Var(&seed, "seed", 0, "of the changed texts of --robustness")
	return c
}

// decodeReport returns the report of an answer.
func decodeReport(r *controlpb.Report) (*evals.Report, error) {
	data, err := r.GetReport().MarshalJSON()
	if err != nil {
		return nil, galley.Errorf(galley.Internal, "report", "the answer cannot be understood: %w", err)
	}
	return evals.DecodeReport(bytes.NewReader(data))
}

// evaluate asks for a report; path is the file to send, "" for none.
func evaluate(ctx context.Context, c controlpb.ControlClient, header *controlpb.EvaluateHeader, path string) (*controlpb.Report, error) {
	stream, err := c.Evaluate(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&controlpb.EvaluateRequest{Part: &controlpb.EvaluateRequest_Header{Header: header}})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if path != "" {
		err := upload("data", path, func(p *controlpb.FilePiece) error {
			return stream.Send(&controlpb.EvaluateRequest{Part: &controlpb.EvaluateRequest_Piece{Piece: p}})
		})
		if err != nil {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

// printReport writes a report for people.
func printReport(w io.Writer, r map[string]any, indent string) {
	fmt.Fprintf(w, "%s%v on %s, %v rows\n", indent, r["ref"], splitOf(r), r["n"])
	printMetrics(w, r["metrics"], indent+"  ", "")
	if slices, ok := r["slices"].([]any); ok {
		for _, s := range slices {
			if s, ok := s.(map[string]any); ok {
				printMetrics(w, s["metrics"], indent+"  ", fmt.Sprintf("%v (%v rows)", s["name"], s["n"]))
			}
		}
	}
	if baselines, ok := r["baselines"].([]any); ok {
		for _, b := range baselines {
			if b, ok := b.(map[string]any); ok {
				printMetrics(w, b["metrics"], indent+"  ", fmt.Sprintf("beside it: %v", b["name"]))
			}
		}
	}
	if latency, ok := r["latency_ms"].(map[string]any); ok {
		fmt.Fprintf(w, "%s  latency    p50 %.4v ms, p99 %.4v ms over %v single requests\n", indent, latency["p50"], latency["p99"], latency["n"])
	}
	if resources, ok := r["resources"].(map[string]any); ok {
		const mib = 1 << 20
		size, _ := resources["size_bytes"].(float64)
		peak, _ := resources["peak_bytes"].(float64)
		fmt.Fprintf(w, "%s  resources  %.0f rows a second, %.1f MiB on disk, %.0f MiB peak of the process\n", indent, resources["rows_per_second"], size/mib, peak/mib)
	}
	if gate, ok := r["gate"].(map[string]any); ok {
		printGate(w, gate, indent+"  ")
	}
}

// splitOf names the rows that a report is about.
func splitOf(r map[string]any) string {
	data, _ := r["dataset"].(map[string]any)
	name := fmt.Sprint(data["name"])
	if version, ok := data["version"].(float64); ok {
		name = fmt.Sprintf("%s@%.0f", name, version)
	}
	if split, ok := data["split"].(string); ok {
		name += " " + split
	}
	return name
}

func printMetrics(w io.Writer, metrics any, indent, title string) {
	m, ok := metrics.(map[string]any)
	if !ok {
		return
	}
	if title != "" {
		fmt.Fprintf(w, "%s%s\n", indent, title)
		indent += "  "
	}
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if x, ok := m[name].(map[string]any); ok {
			fmt.Fprintf(w, "%s%-10s %.4v  (95 %% %.4v to %.4v)\n", indent, name, x["value"], x["low"], x["high"])
		}
	}
}
