package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
)

func (a *app) modelsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "models", Short: "Look at versions, promote them and roll back",
		Example: "  galley models list\n  galley models promote news-topic@2 prod\n  galley models rollback news-topic",
	}
	c.AddCommand(
		a.modelsListCommand(), a.modelsShowCommand(), a.modelsLineageCommand(), a.modelsImportCommand(),
		a.modelsPromoteCommand(), a.modelsRollbackCommand(), a.modelsExportCommand(), a.modelsDeleteCommand(),
		a.modelsHistoryCommand(), a.modelsDiffCommand(), a.modelsGateCommand(),
	)
	return c
}

type versionJSON struct {
	Ref         string             `json:"ref"`
	Digest      string             `json:"digest"`
	Task        string             `json:"task"`
	Aliases     []string           `json:"aliases"`
	Labels      []string           `json:"labels"`
	Metrics     map[string]float64 `json:"metrics"`
	Reports     []map[string]any   `json:"reports"`
	Lineage     map[string]any     `json:"lineage"`
	Files       []fileJSON         `json:"files"`
	Untrainable []string           `json:"untrainable,omitempty"`
	Created     time.Time          `json:"created"`
}

type fileJSON struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

func versionOf(v *controlpb.Version) versionJSON {
	out := versionJSON{
		Ref: v.GetRef(), Digest: v.GetDigest(), Task: v.GetTask(), Aliases: append([]string{}, v.GetAliases()...),
		Labels: append([]string{}, v.GetLabels()...), Metrics: map[string]float64{}, Reports: []map[string]any{},
		Lineage: v.GetLineage().AsMap(), Files: []fileJSON{}, Untrainable: v.GetUntrainable(), Created: v.GetCreated().AsTime(),
	}
	for name, value := range v.GetMetrics() {
		out.Metrics[name] = value
	}
	for _, r := range v.GetReports() {
		out.Reports = append(out.Reports, r.GetReport().AsMap())
	}
	for _, f := range v.GetFiles() {
		out.Files = append(out.Files, fileJSON{f.GetPath(), f.GetDigest(), f.GetSize()})
	}
	return out
}

func (a *app) printVersion(v *controlpb.Version) {
	if a.json {
		a.printJSON(versionOf(v))
		return
	}
	fmt.Fprintf(a.out, "%s  %s  %s\n", v.GetRef(), v.GetTask(), strings.Join(v.GetAliases(), ", "))
	fmt.Fprintf(a.out, "  digest   %s\n", v.GetDigest())
	if len(v.GetLabels()) > 0 {
		fmt.Fprintf(a.out, "  labels   %s\n", strings.Join(v.GetLabels(), ", "))
	}
	for _, key := range []string{"dataset", "parent", "engine", "engine_version", "job"} {
		if value, ok := v.GetLineage().AsMap()[key].(string); ok && value != "" {
			fmt.Fprintf(a.out, "  %-8s %s\n", strings.ReplaceAll(key, "_", " "), value)
		}
	}
	a.printReports(v.GetReports())
	if len(v.GetUntrainable()) > 0 {
		fmt.Fprintf(a.out, "  cannot be trained through: %s\n", strings.Join(v.GetUntrainable(), ", "))
	}
}

// printReports writes the newest report of each split for people: the same
// split is measured again and again.
func (a *app) printReports(reports []*controlpb.Report) {
	newest := map[string]int{}
	for i, r := range reports {
		newest[splitOf(r.GetReport().AsMap())] = i
	}
	for i, r := range reports {
		if report := r.GetReport().AsMap(); newest[splitOf(report)] == i {
			printReport(a.out, report, "  ")
		}
	}
	if earlier := len(reports) - len(newest); earlier > 0 {
		fmt.Fprintf(a.out, "  and %d earlier %s of the same splits: -o json has them\n", earlier, plural(earlier, "report", "reports"))
	}
}

func (a *app) modelsListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List models and their versions", Example: "  galley models list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.ListModels(cmd.Context(), &controlpb.ListModelsRequest{})
				if err != nil {
					return err
				}
				if a.json {
					type listedJSON struct {
						Ref     string    `json:"ref"`
						Digest  string    `json:"digest"`
						Task    string    `json:"task"`
						Aliases []string  `json:"aliases"`
						Created time.Time `json:"created"`
					}
					type modelJSON struct {
						Name     string       `json:"name"`
						Versions []listedJSON `json:"versions"`
					}
					models := []modelJSON{}
					for _, m := range r.GetModels() {
						out := modelJSON{Name: m.GetName(), Versions: []listedJSON{}}
						for _, v := range m.GetVersions() {
							out.Versions = append(out.Versions, listedJSON{v.GetRef(), v.GetDigest(), v.GetTask(), append([]string{}, v.GetAliases()...), v.GetCreated().AsTime()})
						}
						models = append(models, out)
					}
					a.printJSON(map[string]any{"models": models})
					return nil
				}
				w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "VERSION\tTASK\tALIASES\tCREATED")
				for _, m := range r.GetModels() {
					for _, v := range m.GetVersions() {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.GetRef(), v.GetTask(), strings.Join(v.GetAliases(), ","), v.GetCreated().AsTime().Local().Format(time.DateTime))
					}
				}
				return w.Flush()
			})
		},
	}
}

func (a *app) modelsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show REF", Short: "Show a version", Example: "  galley models show news-topic:prod", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				v, err := c.control.GetVersion(cmd.Context(), &controlpb.VersionRequest{Ref: args[0]})
				if err == nil {
					a.printVersion(v)
				}
				return err
			})
		},
	}
}

func (a *app) modelsLineageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lineage REF", Short: "Walk from a version to its data, spec and parents", Example: "  galley models lineage news-topic@2", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.Lineage(cmd.Context(), &controlpb.VersionRequest{Ref: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(r.GetLineage().AsMap())
					return nil
				}
				printLineage(a.out, r.GetLineage().AsMap(), "")
				return nil
			})
		},
	}
}

// printLineage draws a version and, indented, what it came from.
func printLineage(w io.Writer, node map[string]any, indent string) {
	get := func(key string) string { s, _ := node[key].(string); return s }
	fmt.Fprintf(w, "%s%s  %s\n", indent, get("ref"), get("digest"))
	for _, key := range []string{"external", "dataset", "dataset_digest", "spec_digest", "engine", "engine_version", "revision", "hardware", "job"} {
		if v := get(key); v != "" {
			fmt.Fprintf(w, "%s  %-14s %s\n", indent, strings.ReplaceAll(key, "_", " "), v)
		}
	}
	splits, _ := node["splits"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(splits)) {
		split, _ := splits[name].(map[string]any)
		fmt.Fprintf(w, "%s  %-14s %v rows  %v\n", indent, name, split["rows"], split["digest"])
	}
	if parent, ok := node["parent"].(map[string]any); ok {
		fmt.Fprintf(w, "%s  from\n", indent)
		printLineage(w, parent, indent+"    ")
	}
}

func (a *app) modelsRollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rollback NAME [ALIAS]", Short: "Return an alias to the version before", Example: "  galley models rollback news-topic",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &controlpb.RollbackRequest{Name: args[0]}
			if len(args) == 2 {
				request.Alias = args[1]
			}
			return a.with(cmd.Context(), func(c *client) error {
				change, err := c.control.Rollback(cmd.Context(), request)
				if err == nil {
					a.printChange(change)
				}
				return err
			})
		},
	}
}

func (a *app) modelsDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete REF", Short: "Delete a version that nothing needs", Example: "  galley models delete news-topic@1", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.DeleteVersion(cmd.Context(), &controlpb.VersionRequest{Ref: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(map[string]any{"ref": r.GetRef()})
				} else {
					fmt.Fprintf(a.out, "%s deleted\n", r.GetRef())
				}
				return nil
			})
		},
	}
}

// modelFiles are the files of an outside model. Those of an export, which
// lists them, can become the version that they were.
type modelFiles struct {
	graph, tokenizer, labels string
	exported                 bool
}

func (a *app) modelsImportCommand() *cobra.Command {
	var files modelFiles
	var name, task string
	c := &cobra.Command{
		Use: "import FILE.onnx --name N", Short: "Register an outside ONNX graph",
		Long: "Check an outside ONNX graph, say which of its operators cannot be trained, and register it.\nA tokenizer.json and labels.json beside the file are taken along unless others are named.\n\n" +
			"What galley models export wrote becomes the version that it was: the same digest and lineage, marked as told by\nthe export.",
		Example: "  galley models import minilm/model.onnx --name minilm --tokenizer minilm/tokenizer.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files.graph, files.exported = args[0], true
			return a.with(cmd.Context(), func(c *client) error {
				digest, err := uploadModel(cmd.Context(), c.control, files)
				if err != nil {
					return err
				}
				v, err := c.control.ImportModel(cmd.Context(), &controlpb.ImportModelRequest{Name: name, Digest: digest, Task: task})
				if err == nil {
					a.printVersion(v)
				}
				return err
			})
		},
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "the model's name in the registry (required)")
	f.StringVar(&task, "task", "", "text-classification, if the graph has that task's outputs")
	f.StringVar(&files.labels, "labels", "", "labels.json")
	f.StringVar(&files.tokenizer, "tokenizer", "", "tokenizer.json")
	cobra.CheckErr(c.MarkFlagRequired("name"))
	return c
}

// uploadModel sends an outside graph with what lies beside it and returns the
// digest it is known by.
func uploadModel(ctx context.Context, c controlpb.ControlClient, files modelFiles) (string, error) {
	stream, err := c.UploadModel(ctx)
	if err != nil {
		return "", err
	}
	beside := func(given, name string) string {
		if given != "" {
			return given
		}
		path := filepath.Join(filepath.Dir(files.graph), name)
		if _, err := os.Stat(path); err != nil {
			return ""
		}
		return path
	}
	config := ""
	if files.labels == "" {
		config = beside("", "galley.json") // of an exported version
	}
	send := []modelFile{
		{"model.onnx", files.graph},
		{"tokenizer.json", beside(files.tokenizer, "tokenizer.json")},
		{"labels.json", beside(files.labels, "labels.json")},
		{"galley.json", config},
	}
	if files.exported && files.labels == "" && files.tokenizer == "" {
		if listed, err := exportedFiles(files.graph); err != nil {
			return "", err
		} else if listed != nil {
			send = listed
		}
	}
	for _, f := range send {
		if f.path == "" {
			continue
		}
		err := upload(f.name, f.path, func(p *controlpb.FilePiece) error { return stream.Send(&controlpb.UploadModelRequest{Piece: p}) })
		if err != nil {
			return "", err
		}
	}
	r, err := stream.CloseAndRecv()
	return r.GetDigest(), err
}

// A modelFile is a file of an upload.
type modelFile struct{ name, path string }

// maxLineage bounds the lineage.json of an export.
const maxLineage = 4 << 20

// exportedFiles lists the files of the export that a graph is part of, nil if
// it is part of none.
func exportedFiles(graph string) ([]modelFile, error) {
	dir := filepath.Dir(graph)
	path := filepath.Join(dir, "lineage.json")
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || filepath.Base(graph) != "model.onnx" {
		return nil, nil
	}
	if err != nil {
		return nil, fileError(path, err)
	}
	if info.Size() > maxLineage {
		return nil, galley.Errorf(galley.InvalidArgument, path, "has %d bytes", info.Size()).WithRemedy("it has at most %d", maxLineage)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	var lineage struct {
		Version struct {
			Artifacts []struct {
				Path string `json:"path"`
			} `json:"artifacts"`
		} `json:"version"`
	}
	if err := json.Unmarshal(data, &lineage); err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, path, "is not what galley models export writes: %w", err).
			WithRemedy("remove it to import the graph as a model of its own")
	}
	files := []modelFile{{"lineage.json", path}}
	for _, a := range lineage.Version.Artifacts {
		if !filepath.IsLocal(filepath.FromSlash(a.Path)) {
			return nil, galley.Errorf(galley.InvalidArgument, path, "lists a file outside of its folder")
		}
		files = append(files, modelFile{a.Path, filepath.Join(dir, filepath.FromSlash(a.Path))})
	}
	return files, nil
}

func (a *app) modelsExportCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "export REF --out DIR", Short: "Write a version's files to a folder",
		Long:    "Write a version's files to a folder: ONNX, labels, tokenizer, card and reports, which run anywhere ONNX runs.",
		Example: "  galley models export news-topic:prod --out exported", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				files, err := export(cmd.Context(), c.control, args[0], out)
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(map[string]any{"files": files})
					return nil
				}
				for _, f := range files {
					fmt.Fprintf(a.out, "%s  %d bytes  %s\n", filepath.Join(out, f.Path), f.Size, f.Digest)
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "folder to write to (required)")
	cobra.CheckErr(c.MarkFlagRequired("out"))
	return c
}

// export writes the streamed files below dir and checks their digests.
func export(ctx context.Context, c controlpb.ControlClient, ref, dir string) ([]fileJSON, error) {
	stream, err := c.ExportVersion(ctx, &controlpb.VersionRequest{Ref: ref})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fileError(dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fileError(dir, err)
	}
	defer root.Close()
	files := []fileJSON{}
	var w *exportFile
	finish := func() error {
		if w == nil {
			return nil
		}
		f := w
		w = nil
		return f.finish()
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return files, finish()
		}
		if err == nil && (w == nil || chunk.GetPath() != w.path) {
			if err = finish(); err == nil {
				files = append(files, fileJSON{chunk.GetPath(), chunk.GetDigest(), chunk.GetSize()})
				w, err = newExportFile(root, chunk)
			}
		}
		if err == nil {
			_, err = w.Write(chunk.GetData())
		}
		if err != nil {
			if w != nil {
				w.file.Close()
			}
			return files, err
		}
	}
}

// An exportFile is a file being written.
type exportFile struct {
	path, digest string
	file         *os.File
	sum          hash.Hash
	io.Writer
}

func newExportFile(root *os.Root, chunk *controlpb.FileChunk) (*exportFile, error) {
	if err := root.MkdirAll(path.Dir(chunk.GetPath()), 0o755); err != nil {
		return nil, fileError(chunk.GetPath(), err)
	}
	f, err := root.Create(chunk.GetPath())
	if err != nil {
		return nil, fileError(chunk.GetPath(), err)
	}
	sum := sha256.New()
	return &exportFile{path: chunk.GetPath(), digest: chunk.GetDigest(), file: f, sum: sum, Writer: io.MultiWriter(f, sum)}, nil
}

func (f *exportFile) finish() error {
	if err := f.file.Close(); err != nil {
		return fileError(f.path, err)
	}
	if got := "sha256:" + hex.EncodeToString(f.sum.Sum(nil)); got != f.digest {
		return galley.Errorf(galley.DataLoss, f.path, "arrived with the digest %s instead of %s", got, f.digest)
	}
	return nil
}
