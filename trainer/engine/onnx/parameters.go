package onnx

import (
	"encoding/json"
	"fmt"
	"slices"

	"galley"
	graph "galley/onnx"
	"galley/trainer/checkpoint"
)

// parameters are the weights in training, each kind of number in one run of
// memory: the optimizer and checkpoints go over it in one pass, and the
// runtime reads and writes it in place.
type parameters struct {
	list    []parameter
	weights []float32
	grads   []float32
	m, v    []float32 // first and second moments
	layout  galley.Digest
}

// A parameter is the place of one weight in the runs.
type parameter struct {
	name       string
	dims       []int64
	begin, end int
	decays     bool    // matrices and tables do, vectors do not
	rate       float64 // factor on the learning rate
}

// alignment of a weight's first number, in numbers: a cache line.
const alignment = 16

// newParameters takes the named initializers of m out of the graph's tensors.
func newParameters(m *graph.Model, names []string, rate func(name string) float64) (*parameters, error) {
	p := &parameters{}
	total := 0
	tensors := map[string]*graph.Tensor{}
	for _, t := range m.Graph.Initializers {
		tensors[t.Name] = t
	}
	for _, name := range names {
		t := tensors[name]
		begin := total
		total += int(t.Size())
		p.list = append(p.list, parameter{
			name: name, dims: slices.Clone(t.Dims), begin: begin, end: total,
			decays: len(t.Dims) > 1, rate: rate(name),
		})
		total = (total + alignment - 1) / alignment * alignment
	}
	p.weights, p.grads = make([]float32, total), make([]float32, total)
	p.m, p.v = make([]float32, total), make([]float32, total)
	type place struct {
		Name string
		Dims []int64
	}
	var places []place
	for _, q := range p.list {
		values, ok := tensors[q.name].Floats()
		if !ok {
			return nil, galley.Errorf(galley.InvalidArgument, q.name, "is not a tensor of floats")
		}
		copy(p.weights[q.begin:q.end], values)
		places = append(places, place{q.name, q.dims})
	}
	data, err := json.Marshal(places)
	if err != nil {
		return nil, err
	}
	p.layout = galley.DigestBytes(data)
	return p, nil
}

// sections are what a checkpoint keeps of the parameters.
func (p *parameters) sections() []checkpoint.Section {
	return []checkpoint.Section{{Name: "weights", Values: p.weights}, {Name: "m", Values: p.m}, {Name: "v", Values: p.v}}
}

// best is what the checkpoint of the best weights keeps.
func (p *parameters) best() []checkpoint.Section {
	return []checkpoint.Section{{Name: "weights", Values: p.weights}}
}

// store copies the weights into the initializers of the same names in m.
// Every one of m's trainable initializers must have been trained.
func (p *parameters) store(m *graph.Model) error {
	for i, t := range m.Graph.Initializers {
		at := slices.IndexFunc(p.list, func(q parameter) bool { return q.name == t.Name })
		if at < 0 {
			continue
		}
		q := p.list[at]
		if !slices.Equal(q.dims, t.Dims) {
			return fmt.Errorf("weight %s has shape %v in training and %v in the model", q.name, q.dims, t.Dims)
		}
		m.Graph.Initializers[i] = graph.NewFloat(q.name, p.weights[q.begin:q.end], q.dims...)
	}
	return nil
}
