package onnx

import (
	"context"

	graph "galley/onnx"
	"galley/onnx/session"
)

// An evaluator runs a graph with the weights in training, in their place.
type evaluator struct {
	session session.Session
	binding session.Binding
}

func newEvaluator(ctx context.Context, opener session.Opener, m *graph.Model, p *parameters, threads int) (*evaluator, error) {
	m = m.Clone()
	var names []string
	for _, q := range p.list {
		if m.Graph.Initializer(q.name) != nil { // else only the loss needs it
			names = append(names, q.name)
		}
	}
	if _, err := graph.InitializersToInputs(m.Graph, names...); err != nil {
		return nil, err
	}
	data, err := graph.Marshal(m)
	if err != nil {
		return nil, err
	}
	s, err := opener.Open(ctx, data, session.Options{Threads: threads, NoArena: true, Label: "validation"})
	if err != nil {
		return nil, err
	}
	e := &evaluator{session: s}
	if err := e.bind(p); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *evaluator) bind(p *parameters) (err error) {
	if e.binding, err = e.session.Bind(); err != nil {
		return err
	}
	inputs := map[string]bool{}
	for _, v := range e.session.Inputs() {
		inputs[v.Name] = true
	}
	for _, q := range p.list {
		if !inputs[q.name] {
			continue
		}
		t, err := session.New(p.weights[q.begin:q.end], q.dims...)
		if err != nil {
			return err
		}
		if err := e.binding.Input(q.name, t); err != nil {
			return err
		}
	}
	for _, v := range e.session.Outputs() {
		if err := e.binding.OutputAuto(v.Name); err != nil {
			return err
		}
	}
	return nil
}

// run computes the outputs of a batch.
func (e *evaluator) run(ctx context.Context, f feed) error {
	for _, v := range e.session.Inputs() {
		if t, ok := f.inputs[v.Name]; ok {
			if err := e.binding.Input(v.Name, t); err != nil {
				return err
			}
		}
	}
	return e.binding.Run(ctx)
}

// output returns what the last run computed, valid until the next.
func (e *evaluator) output(name string) ([]float32, error) {
	t, err := e.binding.Fetch(name)
	return session.Data[float32](t), err
}

func (e *evaluator) close() {
	if e.binding != nil {
		e.binding.Close()
	}
	e.session.Close()
}
