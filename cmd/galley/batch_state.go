package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"

	"galley"
	"galley/dataset"
	"galley/internal/durable"
)

// A batchState says how far a batch prediction has come. It lies beside the
// output until that is whole.
type batchState struct {
	Format string        `json:"format"`
	Input  galley.Digest `json:"input"`
	Read   string        `json:"read"`   // format and columns of the input
	Output string        `json:"output"` // format
	Ref    string        `json:"ref,omitempty"`
	Model  galley.Digest `json:"model,omitempty"`
	Labels []string      `json:"labels,omitempty"`
	Rows   int64         `json:"rows"`  // scored and stored
	Bytes  int64         `json:"bytes"` // of the part file
	path   string
	out    string
}

const batchFormat = "galley-predict/1"

// maxBatchState bounds a state file, whose labels may be many.
const maxBatchState = 16 << 20

// batchOutputs are the formats that can be written.
var batchOutputs = []string{"jsonl", "csv", "parquet"}

// openBatchState reads the state of an earlier run, or begins one. An output
// that is there already is not written over.
func openBatchState(out string, in dataset.Input, read dataset.ReadOptions, format string) (*batchState, error) {
	digest, err := digestOf(in)
	if err != nil {
		return nil, err
	}
	fresh := &batchState{
		Format: batchFormat, Input: digest, Read: string(read.Format) + " " + read.Columns.String(), Output: format,
		path: out + ".state", out: out,
	}
	data, err := os.ReadFile(fresh.path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(out); err == nil {
			return nil, galley.Errorf(galley.AlreadyExists, out, "is there already").WithRemedy("name another --out, or remove it first")
		}
		return fresh, nil
	}
	if err != nil {
		return nil, fileError(fresh.path, err)
	}
	found := *fresh
	if len(data) > maxBatchState || json.Unmarshal(data, &found) != nil || found.Format != batchFormat || found.Rows < 0 || found.Bytes < 0 {
		return nil, galley.Errorf(galley.DataLoss, fresh.path, "is not the state of a batch prediction").
			WithRemedy("remove it and %s to begin anew", fresh.part())
	}
	if found.Input != fresh.Input || found.Read != fresh.Read || found.Output != fresh.Output {
		return nil, galley.Errorf(galley.FailedPrecondition, out, "is under way from another input, or with other columns or formats").
			WithRemedy("name another --out, or remove %s to begin anew", fresh.path)
	}
	return &found, nil
}

// complete reports whether an earlier run ended just before it could say so.
func (s *batchState) complete() bool {
	_, part := os.Stat(s.part())
	_, out := os.Stat(s.out)
	return s.Ref != "" && errors.Is(part, fs.ErrNotExist) && out == nil
}

// part is where the output under way lies.
func (s *batchState) part() string { return s.out + ".part" }

// remove removes what lies beside the output, also of runs that were killed,
// the state last.
func (s *batchState) remove() error {
	for _, path := range []string{s.out, s.path} {
		if err := durable.Clean(path); err != nil {
			return fileError(path, err)
		}
	}
	for _, path := range []string{s.part(), s.path} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fileError(path, err)
		}
	}
	return nil
}

func digestOf(in dataset.Input) (galley.Digest, error) {
	f, err := in.Open()
	if err != nil {
		return "", fileError(in.Name, err)
	}
	defer f.Close()
	digest, _, err := galley.DigestReader(f)
	if err != nil {
		return "", fileError(in.Name, err)
	}
	return digest, nil
}

// save makes the part file durable, and then that it is.
func (s *batchState) save(part *batchPart) error {
	if err := part.sync(); err != nil {
		return err
	}
	s.Bytes = part.bytes
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.Write(s.path, 0o644, data); err != nil {
		return fileError(s.path, err)
	}
	return nil
}

// outputFormat is the format of an output by its ending.
func outputFormat(path string) (string, error) {
	format, err := formatOf("", path)
	if err != nil || !slices.Contains(batchOutputs, format) {
		return "", galley.Errorf(galley.InvalidArgument, path, "its format cannot be told from its name").
			WithRemedy("let it end in .jsonl, .csv or .parquet")
	}
	return format, nil
}
