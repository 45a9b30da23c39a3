package partner

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"galley"
	"galley/feature/text"
	"galley/federation"
	"galley/internal/durable"
	"galley/onnx"
	"galley/task"
	"galley/trainer/objective"
)

// A model is the one that a run began with, with the weights of a round.
type model struct {
	dir     string
	labels  []string
	graph   *onnx.Model
	weights []*onnx.Tensor // those that are exchanged, of graph
	layout  federation.Layout
	before  [][]float32 // of the round, in the layout's order
}

// openModel reads a model that was fetched. Its graph keeps all in one file:
// one that names other files is refused.
func openModel(dir string) (*model, error) {
	data, err := os.ReadFile(filepath.Join(dir, task.ModelFile))
	if err != nil {
		return nil, durable.ReadError(dir, err)
	}
	m := &model{dir: dir}
	if m.graph, err = onnx.Unmarshal(data, onnx.ReadOptions{}); err != nil {
		return nil, err
	}
	settings, err := readBounded(filepath.Join(dir, task.ConfigFile), maxSettings)
	if err != nil {
		return nil, err
	}
	config, err := task.DecodeConfig(bytes.NewReader(settings))
	if err != nil {
		return nil, err
	}
	if config.Task != task.TextClassification {
		return nil, galley.Errorf(galley.InvalidArgument, task.ConfigFile, "is of a model for %s", config.Task)
	}
	m.labels = config.Labels
	f, err := os.Open(filepath.Join(dir, task.TokenizerFile))
	if err != nil {
		return nil, durable.ReadError(dir, err)
	}
	defer f.Close()
	if _, err := text.Load(f); err != nil {
		return nil, err
	}
	if m.weights, m.layout, err = exchanged(m.graph); err != nil {
		return nil, err
	}
	return m, nil
}

// exchanged returns the weights of a graph that leave with an update, in the
// order of their layout.
func exchanged(graph *onnx.Model) ([]*onnx.Tensor, federation.Layout, error) {
	weights, err := objective.Federated(graph)
	if err != nil {
		return nil, nil, err
	}
	layout, err := federation.LayoutOf(weights)
	weights = slices.SortedFunc(slices.Values(weights), func(a, b *onnx.Tensor) int { return strings.Compare(a.Name, b.Name) })
	return weights, layout, err
}

// begin puts the weights of a round, which must be those that the offer names,
// into the model.
func (m *model) begin(path string, want galley.Digest) error {
	f, err := os.Open(path)
	if err != nil {
		return durable.ReadError(path, err)
	}
	defer f.Close()
	digest, err := federation.ReadTensors(f, m.weights)
	if err != nil {
		return err
	}
	if digest != want {
		return galley.Errorf(galley.DataLoss, "weights", "are %s, and the offer says %s", digest.Short(), want.Short())
	}
	m.before, err = numbers(m.weights)
	return err
}

// numbers returns the numbers of weights.
func numbers(weights []*onnx.Tensor) ([][]float32, error) {
	all := make([][]float32, len(weights))
	for i, t := range weights {
		values, ok := t.Floats()
		if !ok {
			return nil, galley.Errorf(galley.InvalidArgument, t.Name, "has %d bytes for the shape %v", len(t.Data), t.Dims)
		}
		all[i] = values
	}
	return all, nil
}

// write puts the model, with the weights of its round, into a folder that a
// training goes on from; it appears whole or not at all.
func (m *model) write(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil // of an agent that was killed while it trained
	}
	graph, err := onnx.Marshal(m.graph)
	if err != nil {
		return err
	}
	part := dir + partial
	if err := os.RemoveAll(part); err != nil {
		return durable.WriteError(part, err)
	}
	if err := os.MkdirAll(part, 0o700); err != nil {
		return durable.WriteError(part, err)
	}
	files := map[string][]byte{task.ModelFile: graph}
	for _, name := range []string{task.ConfigFile, task.TokenizerFile} {
		if files[name], err = readBounded(filepath.Join(m.dir, name), maxSettings); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := durable.Write(filepath.Join(part, name), 0o600, data); err != nil {
			return durable.WriteError(part, err)
		}
	}
	return durable.WriteError(dir, os.Rename(part, dir))
}
