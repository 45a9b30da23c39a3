package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"galley"
	"galley/internal/durable"
	"galley/onnx"
	"galley/registry"
	"galley/task"
)

// lineageFile goes with an export: with it the files become the same version,
// with the same digest and lineage, in another home.
const lineageFile = "lineage.json"

// An exported version is what lineage.json holds.
type exported struct {
	Format  string           `json:"format"`
	Version registry.Version `json:"version"` // without its reports
}

const (
	exportedFormat = "galley-lineage/1"
	maxExported    = 4 << 20
)

func exportedLineage(v registry.Version) ([]byte, error) {
	v.Reports = nil
	data, err := json.MarshalIndent(exported{exportedFormat, v}, "", "  ")
	if err != nil {
		return nil, galley.Errorf(galley.Internal, v.Ref(), "its lineage cannot be written: %w", err)
	}
	return data, nil
}

// readLineage returns what a folder's lineage.json says, nil if it has none.
func readLineage(dir string) (*registry.Version, error) {
	path := filepath.Join(dir, lineageFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, durable.WriteError(lineageFile, err)
	}
	if info.Size() > maxExported {
		return nil, galley.Errorf(galley.InvalidArgument, lineageFile, "has %d bytes", info.Size()).WithRemedy("it has at most %d", maxExported)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, durable.WriteError(lineageFile, err)
	}
	var e exported
	if err := json.Unmarshal(data, &e); err != nil || e.Format != exportedFormat {
		return nil, galley.Errorf(galley.InvalidArgument, lineageFile, "is not what galley models export writes").
			WithRemedy("remove it to import the graph as a model of its own")
	}
	var spec bytes.Buffer // as it was before the export indented it
	if len(e.Version.Lineage.Spec) > 0 && json.Compact(&spec, e.Version.Lineage.Spec) == nil {
		e.Version.Lineage.Spec = spec.Bytes()
	}
	return &e.Version, nil
}

// importExported registers what another home exported as the version that it
// was there. Its lineage is marked as told, not made, here; the digest holds
// it to the files.
func (c *Control) importExported(ctx context.Context, by galley.Actor, name, asked string, told registry.Version, files []registry.Artifact, dir string, m *onnx.Model) (Imported, error) {
	wrong := func(format string, args ...any) (Imported, error) {
		return Imported{}, galley.Errorf(galley.InvalidArgument, lineageFile, format, args...).
			WithRemedy("export the version again, or remove %s to import the graph as a model of its own", lineageFile)
	}
	for _, a := range told.Artifacts {
		if !slices.Contains(files, a) {
			return wrong("tells of another %q than the one beside it", galley.Clip(a.Path, 80))
		}
	}
	if asked != "" && asked != told.Task {
		return wrong("says that the task is %q, not %q", galley.Clip(told.Task, 80), asked)
	}
	v := registry.Version{
		Name: name, Digest: told.Digest, Task: told.Task, Labels: told.Labels, Artifacts: told.Artifacts, Lineage: told.Lineage,
		Metrics: told.Metrics, Creator: by, Created: c.now(),
	}
	if v.Lineage.External == "" { // else it has been through several homes
		v.Lineage.External = told.Ref()
		if told.Lineage.Job != "" {
			v.Lineage.External += " of job " + told.Lineage.Job
		}
	}
	// No job of this home made it: it is tried before it is served.
	v.Lineage.Job = ""
	if v.Digest == "" {
		return wrong("has no digest")
	}
	v, err := v.Complete()
	if err != nil {
		return Imported{}, err
	}
	if v.Task == string(task.TextClassification) {
		config, err := classifierConfig(dir, m)
		if err != nil {
			return Imported{}, err
		}
		if !slices.Equal(config.Labels, v.Labels) {
			return wrong("has other labels than %s", task.ConfigFile)
		}
	}
	return c.registerImport(ctx, v, m)
}
