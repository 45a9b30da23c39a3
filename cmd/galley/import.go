package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
)

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
	if filepath.Base(graph) != "model.onnx" {
		return nil, nil
	}
	data, err := readFile(path, maxLineage, "the lineage of an export")
	if galley.CodeOf(err) == galley.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
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
