package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
)

func (a *app) dataCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "data",
		Short:   "Freeze datasets and look at them",
		Example: "  galley data add headlines --train train.csv --test test.csv --format csv\n  galley data list",
	}
	c.AddCommand(a.dataAddCommand(), a.dataListCommand(), a.dataShowCommand())
	return c
}

// dataFiles are the flags that name files of data.
type dataFiles struct {
	train, valid, test string
	format, columns    string
	unlabelled         bool
	seed               uint64
	licence            string
}

func (a *app) dataAddCommand() *cobra.Command {
	var files dataFiles
	c := &cobra.Command{
		Use:   "add NAME --train PATH",
		Short: "Freeze files as a new version of a dataset",
		Long: `Freeze files as a new version of a dataset, with a digest of each split.

Rows that cannot be used are reported with file and line, and left out. If
--valid is not given, a tenth of the training rows is cut off for validation,
always the same.`,
		Example: "  galley data add headlines --train train.csv --valid valid.csv --test test.csv --format csv\n" +
			"  galley data add ag-news --train ag/train.csv --test ag/test.csv --format csv --columns text=title+description,label=label",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				d, err := addData(cmd.Context(), c.control, args[0], files)
				if err != nil {
					return err
				}
				a.printDataset(d)
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringVar(&files.train, "train", "", "file with the training rows (required)")
	f.StringVar(&files.valid, "valid", "", "file with the validation rows")
	f.StringVar(&files.test, "test", "", "file with the test rows")
	f.Var(formatFlag(&files.format), "format", "csv, jsonl or parquet; by the file's ending if not given")
	f.Var(columnsFlag(&files.columns), "columns", "where fields come from: text=title+description,label=label")
	f.BoolVar(&files.unlabelled, "unlabelled", false, "rows need no label (for text-mlm)")
	f.Uint64Var(&files.seed, "seed", 1, "cuts valid off train")
	f.StringVar(&files.licence, "licence", "", "the data's licence, for lineage")
	cobra.CheckErr(c.MarkFlagRequired("train"))
	return c
}

// addData uploads the files and returns the frozen dataset.
func addData(ctx context.Context, c controlpb.ControlClient, name string, files dataFiles) (*controlpb.Dataset, error) {
	if err := galley.CheckName("dataset", name); err != nil {
		return nil, err
	}
	format, err := formatOf(files.format, files.train)
	if err != nil {
		return nil, err
	}
	stream, err := c.AddData(ctx)
	if err != nil {
		return nil, err
	}
	header := &controlpb.AddDataHeader{
		Name: name, Format: format, Columns: files.columns, Unlabelled: files.unlabelled, Seed: files.seed, Licence: files.licence,
	}
	err = stream.Send(&controlpb.AddDataRequest{Part: &controlpb.AddDataRequest_Header{Header: header}})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for _, split := range []struct{ name, path string }{{"train", files.train}, {"valid", files.valid}, {"test", files.test}} {
		if split.path == "" {
			continue
		}
		err := upload(split.name, split.path, func(p *controlpb.FilePiece) error {
			return stream.Send(&controlpb.AddDataRequest{Part: &controlpb.AddDataRequest_Piece{Piece: p}})
		})
		if err != nil {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

// formatOf is the format given, or the one a file's ending tells.
func formatOf(format, path string) (string, error) {
	if format != "" {
		return format, nil
	}
	for _, f := range rowFormats {
		if strings.HasSuffix(path, "."+f) {
			return f, nil
		}
	}
	return "", galley.Errorf(galley.InvalidArgument, path, "its format cannot be told from its name").
		WithRemedy("add --format csv, jsonl or parquet")
}

type splitJSON struct {
	Rows       int64            `json:"rows"`
	Digest     string           `json:"digest"`
	Classes    map[string]int64 `json:"classes,omitempty"`
	Languages  map[string]int64 `json:"languages,omitempty"`
	Duplicates int64            `json:"duplicates"`
	Leaks      int64            `json:"leaks"`
}

type datasetJSON struct {
	Name          string               `json:"name"`
	Version       int32                `json:"version"`
	Digest        string               `json:"digest"`
	Splits        map[string]splitJSON `json:"splits"`
	Labels        []string             `json:"labels"`
	Rejected      []rejectionJSON      `json:"rejected"`
	RejectedTotal int64                `json:"rejected_total"`
}

type rejectionJSON struct {
	File string `json:"file"`
	Line int64  `json:"line"`
	Why  string `json:"why"`
}

func datasetOf(d *controlpb.Dataset) datasetJSON {
	out := datasetJSON{
		Name: d.GetName(), Version: d.GetVersion(), Digest: d.GetDigest(), RejectedTotal: d.GetRejectedTotal(),
		Splits: map[string]splitJSON{}, Labels: append([]string{}, d.GetLabels()...), Rejected: []rejectionJSON{},
	}
	for _, s := range d.GetSplits() {
		out.Splits[s.GetName()] = splitJSON{
			Rows: s.GetRows(), Digest: s.GetDigest(), Classes: s.GetClasses(), Languages: s.GetLanguages(),
			Duplicates: s.GetDuplicates(), Leaks: s.GetLeaks(),
		}
	}
	for _, r := range d.GetRejected() {
		out.Rejected = append(out.Rejected, rejectionJSON{r.GetFile(), r.GetLine(), r.GetWhy()})
	}
	return out
}

func (a *app) printDataset(d *controlpb.Dataset) {
	if a.json {
		a.printJSON(datasetOf(d))
		return
	}
	fmt.Fprintf(a.out, "%s@%d  %s\n", d.GetName(), d.GetVersion(), d.GetDigest())
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, s := range d.GetSplits() {
		fmt.Fprintf(w, "  %s\t%d rows", s.GetName(), s.GetRows())
		if s.GetDuplicates() > 0 {
			fmt.Fprintf(w, "\t%d duplicates", s.GetDuplicates())
		}
		if s.GetLeaks() > 0 {
			fmt.Fprintf(w, "\t%d texts also in train", s.GetLeaks())
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	if len(d.GetLabels()) > 0 {
		fmt.Fprintf(a.out, "  labels  %s\n", strings.Join(d.GetLabels(), ", "))
	}
	printRejected(a.err, datasetOf(d).Rejected, d.GetRejectedTotal())
}

// printRejected lists the first rows that were left out.
func printRejected(w io.Writer, rejected []rejectionJSON, total int64) {
	if total == 0 {
		return
	}
	fmt.Fprintf(w, "%d %s left out:\n", total, plural(int(total), "row was", "rows were"))
	for i, r := range rejected {
		if i == 10 {
			fmt.Fprintf(w, "  … -o json lists up to a thousand\n")
			break
		}
		fmt.Fprintf(w, "  %s:%d: %s\n", r.File, r.Line, r.Why)
	}
}

func (a *app) dataListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List datasets", Example: "  galley data list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.ListData(cmd.Context(), &controlpb.ListDataRequest{})
				if err != nil {
					return err
				}
				if a.json {
					all := []datasetJSON{}
					for _, d := range r.GetDatasets() {
						all = append(all, datasetOf(d))
					}
					a.printJSON(map[string]any{"datasets": all})
					return nil
				}
				for _, d := range r.GetDatasets() {
					a.printDataset(d)
				}
				return nil
			})
		},
	}
}

func (a *app) dataShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show REF", Short: "Show a dataset", Example: "  galley data show headlines@1", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				d, err := c.control.GetData(cmd.Context(), &controlpb.GetDataRequest{Ref: args[0]})
				if err != nil {
					return err
				}
				a.printDataset(d)
				return nil
			})
		},
	}
}
