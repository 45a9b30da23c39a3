package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
)

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
	if got := galley.SumDigest(f.sum); string(got) != f.digest {
		return galley.Errorf(galley.DataLoss, f.path, "arrived with the digest %s instead of %s", got, f.digest)
	}
	return nil
}
