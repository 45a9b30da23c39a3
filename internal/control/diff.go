package control

import (
	"context"
	"os"

	"galley"
	"galley/dataset"
	"galley/internal/durable"
	"galley/onnx"
	"galley/registry"
	"galley/registry/diff"
	"galley/task"
)

// Diff says in what two versions differ.
func (c *Control) Diff(ctx context.Context, a, b galley.Ref) (diff.Diff, error) {
	one, err := c.resolveVersion(ctx, a)
	if err != nil {
		return diff.Diff{}, err
	}
	two, err := c.resolveVersion(ctx, b)
	if err != nil {
		return diff.Diff{}, err
	}
	d := diff.Versions(one, two)
	if one.Lineage.DatasetDigest != two.Lineage.DatasetDigest {
		d.Data = diff.Data(c.manifest(ctx, one), c.manifest(ctx, two))
	}
	x, y := graphOf(one), graphOf(two)
	if x == y || x == "" || y == "" {
		return d, nil // no graph, or the same one
	}
	// Two graphs are large: one comparison at a time, with evaluations.
	select {
	case c.evaluating <- struct{}{}:
		defer func() { <-c.evaluating }()
	case <-ctx.Done():
		return d, ctx.Err()
	}
	first, err := c.versionGraph(ctx, one)
	if err != nil {
		return d, err
	}
	second, err := c.versionGraph(ctx, two)
	if err != nil {
		return d, err
	}
	graphs := diff.Graphs(first, second)
	d.Graph = &graphs
	return d, nil
}

func graphOf(v registry.Version) galley.Digest {
	a, _ := v.Artifact(task.ModelFile)
	return a.Digest
}

// versionGraph reads the graph of a version, with tensors that lie in files
// of their own.
func (c *Control) versionGraph(ctx context.Context, v registry.Version) (*onnx.Model, error) {
	dir, err := os.MkdirTemp(c.temp(), "diff-*")
	if err != nil {
		return nil, durable.WriteError(c.temp(), err)
	}
	defer os.RemoveAll(dir)
	if err := c.materialise(ctx, dir, v.Artifacts); err != nil {
		return nil, err
	}
	return readGraph(dir)
}

// manifest returns what a version was trained on, nil if that is not here.
func (c *Control) manifest(ctx context.Context, v registry.Version) *dataset.Manifest {
	if v.Lineage.Dataset == "" {
		return nil
	}
	d, err := c.dataset(ctx, v.Lineage.Dataset)
	if err != nil || d.Digest != v.Lineage.DatasetDigest {
		return nil
	}
	return d.Manifest
}
