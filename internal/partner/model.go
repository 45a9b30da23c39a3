package partner

import (
	"bytes"
	"errors"
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

// A model is the one that a run began with, with the weights of a round. It is
// read once for a run.
type model struct {
	run     string
	files   map[string][]byte // beside the graph
	labels  []string
	graph   *onnx.Model
	weights []*onnx.Tensor // those that are exchanged, of graph
	layout  federation.Layout
	before  [][]float32 // of the round, in the layout's order
}

// openModel reads a model that was fetched. Its graph keeps all in one file:
// one that names other files is refused.
func openModel(run, dir string) (*model, error) {
	data, err := os.ReadFile(filepath.Join(dir, task.ModelFile))
	if err != nil {
		return nil, durable.ReadError(dir, err)
	}
	m := &model{run: run, files: map[string][]byte{}}
	if m.graph, err = onnx.Unmarshal(data, onnx.ReadOptions{}); err != nil {
		return nil, err
	}
	for _, name := range []string{task.ConfigFile, task.TokenizerFile} {
		if m.files[name], err = readBounded(filepath.Join(dir, name), maxSettings); err != nil {
			return nil, err
		}
	}
	config, err := task.DecodeConfig(bytes.NewReader(m.files[task.ConfigFile]))
	if err != nil {
		return nil, err
	}
	if config.Task != task.TextClassification {
		return nil, galley.Errorf(galley.InvalidArgument, task.ConfigFile, "is of a model for %s", config.Task)
	}
	m.labels = config.Labels
	if _, err := text.Load(bytes.NewReader(m.files[task.TokenizerFile])); err != nil {
		return nil, err
	}
	if m.weights, err = objective.Federated(m.graph); err != nil {
		return nil, err
	}
	slices.SortFunc(m.weights, func(a, b *onnx.Tensor) int { return strings.Compare(a.Name, b.Name) })
	m.layout, err = federation.LayoutOf(m.weights)
	return m, err
}

// after returns the numbers of a trained graph's weights, which are those of the
// model's layout.
func (m *model) after(graph *onnx.Model) ([][]float32, error) {
	weights := make([]*onnx.Tensor, len(m.layout))
	for i, s := range m.layout {
		t := graph.Graph.Initializer(s.Name)
		if t == nil || t.Type != onnx.Float || !slices.Equal(t.Dims, s.Dims) {
			return nil, galley.Errorf(galley.Internal, "training", "has made a model without the weights %s", s)
		}
		weights[i] = t
	}
	return numbers(weights)
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
// training goes on from. What an agent that was killed has left there is written
// over, so that nothing has to be flushed.
func (m *model) write(dir string) error {
	graph, err := onnx.Marshal(m.graph)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return durable.WriteError(dir, err)
	}
	err = os.WriteFile(filepath.Join(dir, task.ModelFile), graph, 0o600)
	for name, data := range m.files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return durable.WriteError(dir, err)
}
