package control

import (
	"context"
	"errors"
	"os"
	"slices"

	"galley"
	"galley/evals"
	"galley/internal/durable"
	"galley/onnx/session"
	"galley/registry"
	"galley/task"
)

// A rival is the version that another would follow, in production above all.
type rival struct {
	version registry.Version
	apart   *evals.Check // why the two cannot be compared; nil if they can
}

// rivalOf returns the version that an alias points at, nil if it points at
// none or at v itself.
func (c *Control) rivalOf(ctx context.Context, v registry.Version, m registry.Model, alias string) (*rival, error) {
	prod, ok := m.Alias(alias)
	if !ok || prod.Target == 0 || prod.Target == v.Number {
		return nil, nil
	}
	r := &rival{}
	var err error
	if r.version, err = c.store.Version(ctx, m.Name, prod.Target); err != nil {
		return nil, err
	}
	switch {
	case v.Task != r.version.Task:
		r.apart = &evals.Check{Name: "task", Detail: "the task is " + named(v.Task) + ", that of " + r.version.Ref() + " is " + named(r.version.Task) + ": who asks it would get other answers"}
	case v.Task != string(task.TextClassification):
		r.apart = &evals.Check{Name: "measured", Passed: true, Detail: "nothing was compared: the task is " + named(v.Task) + ", which has no metrics"}
	case !sameLabels(v, r.version):
		r.apart = &evals.Check{Name: "labels", Detail: "the labels are not those of " + r.version.Ref() + ", so that no rows can be put to both"}
	}
	return r, nil
}

// against opens the version that an evaluation is to compare with, nil for
// none, and adds it to what answers the same rows.
func (c *Control) against(ctx context.Context, v registry.Version, ref galley.Ref, labels []string, o *evals.Options) (*model, error) {
	if ref == (galley.Ref{}) {
		return nil, nil
	}
	other, err := c.resolveVersion(ctx, ref)
	if err != nil {
		return nil, err
	}
	switch {
	case other.Digest == v.Digest:
		return nil, galley.Errorf(galley.InvalidArgument, "against", "%s has the content of %s: there is nothing to compare", other.Ref(), v.Ref()).
			WithRemedy("name another version")
	case other.Task != v.Task:
		return nil, galley.Errorf(galley.FailedPrecondition, "against", "the task of %s is %s, that of %s is %s", other.Ref(), named(other.Task), v.Ref(), named(v.Task)).
			WithRemedy("name a version of the same task")
	case !sameLabels(v, other):
		return nil, galley.Errorf(galley.FailedPrecondition, "against", "%s has other labels than %s, so that no rows can be put to both", other.Ref(), v.Ref()).
			WithRemedy("name a version with the same labels")
	}
	m, err := c.openVersion(ctx, other, c.forEvaluation())
	if err != nil {
		return nil, err
	}
	contender, err := m.contender(other, labels)
	if err != nil {
		m.close()
		return nil, err
	}
	o.Baselines = append(o.Baselines, contender)
	return m, nil
}

// sameLabels reports whether two versions have the same labels, in any order.
func sameLabels(a, b registry.Version) bool {
	return slices.Equal(slices.Sorted(slices.Values(a.Labels)), slices.Sorted(slices.Values(b.Labels)))
}

// named is a task as a sentence has it.
func named(kind string) string {
	if kind == "" {
		return "none"
	}
	return kind
}

// openVersion opens a registered classifier.
func (c *Control) openVersion(ctx context.Context, v registry.Version, o session.Options) (m *model, err error) {
	dir, err := os.MkdirTemp(c.temp(), "model-*")
	if err != nil {
		return nil, durable.WriteError(c.temp(), err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := c.materialise(ctx, dir, v.Artifacts); err != nil {
		return nil, err
	}
	if m, err = c.openModel(ctx, dir, o); err != nil {
		return nil, err
	}
	m.dir = dir
	return m, nil
}

// contender puts a version beside another whose labels have the given order.
func (m *model) contender(v registry.Version, labels []string) (evals.Contender, error) {
	out := evals.Contender{Name: v.Ref(), Predictor: m, Version: &evals.Contestant{Model: v.Digest, SizeBytes: sizeOf(v)}}
	own := m.labels()
	if slices.Equal(own, labels) {
		return out, nil
	}
	columns := make([]int, len(labels))
	for i, label := range labels {
		if columns[i] = slices.Index(own, label); columns[i] < 0 || len(own) != len(labels) {
			return out, galley.Errorf(galley.FailedPrecondition, v.Ref(), "has other labels").WithRemedy("compare versions that have the same labels: galley models show lists them")
		}
	}
	out.Predictor = reordered{m, columns}
	return out, nil
}

// A reordered predictor gives scores in the order of another's labels.
type reordered struct {
	evals.Predictor
	columns []int // where each label's score is
}

// Predict implements evals.Predictor.
func (r reordered) Predict(ctx context.Context, texts []string) ([]evals.Prediction, error) {
	out, err := r.Predictor.Predict(ctx, texts)
	for i, p := range out {
		scores := make([]float32, len(r.columns))
		for j, from := range r.columns {
			scores[j] = p.Scores[from]
		}
		out[i].Scores = scores
	}
	return out, err
}

// sizeOf is how large a version's files are.
func sizeOf(v registry.Version) int64 {
	var sum int64
	for _, a := range v.Artifacts {
		sum += a.Size
	}
	return sum
}
