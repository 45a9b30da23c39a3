package control

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/internal/store"
	"galley/onnx"
	"galley/registry"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
)

// A staged model is all that publishing it needs: its files and reports are
// blobs already. It travels in the effect that publishes it.
type staged struct {
	Version registry.Version `json:"version"`
	Reports []galley.Digest  `json:"reports,omitempty"`
	// Withheld says why the version does not become the candidate.
	Withheld string `json:"withheld,omitempty"`
}

// stage checks the bundle of a finished attempt, stores its files, and
// measures it on the valid and test splits. Doing it again gives the same.
func (c *Control) stage(ctx context.Context, j trainer.Job, r engine.Result) (*staged, error) {
	work := c.workDir(j.ID)
	if rel, err := filepath.Rel(work, r.Bundle); err != nil || !filepath.IsLocal(rel) {
		return nil, galley.Errorf(galley.Internal, j.ID, "the engine's bundle %q is outside of the job's folder", r.Bundle)
	}
	bundle, err := task.OpenBundleDir(r.Bundle)
	if err != nil {
		return nil, err
	}
	if err := checkGraph(filepath.Join(r.Bundle, task.ModelFile), bundle.Config); err != nil {
		return nil, err
	}
	artifacts, err := c.collect(ctx, r.Bundle)
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(j.Spec)
	if err != nil {
		return nil, galley.Errorf(galley.Internal, j.ID, "its spec cannot be written: %w", err)
	}
	splits, err := c.splits(ctx, j.Data)
	if err != nil {
		return nil, err
	}
	v := registry.Version{
		Name: j.Spec.Name, Task: j.Spec.Task, Labels: bundle.Config.Labels, Artifacts: artifacts,
		Metrics: r.Metrics, Creator: j.Owner, Created: c.now(),
		Lineage: registry.Lineage{
			Spec: spec, SpecDigest: j.SpecDigest, Job: j.ID,
			Dataset: j.Data, DatasetDigest: j.DataDigest, Splits: splits,
			Parent: j.ParentRef, ParentDigest: j.Parent, DistilledFrom: distilledFrom(j),
			Engine: j.Spec.Driver(), EngineVersion: c.engineVersion(j.Spec),
			Revision: c.revision, Hardware: fmt.Sprintf("%s/%s, %d CPUs of %d", runtime.GOOS, runtime.GOARCH, c.need(j), c.cpus),
		},
	}
	if j.Unlabelled != "" {
		d, err := c.dataset(ctx, j.Unlabelled)
		if err != nil {
			return nil, err
		}
		v.Lineage.Unlabelled, v.Lineage.UnlabelledDigest = j.Unlabelled, d.Digest
	}
	if v, err = v.Complete(); err != nil {
		return nil, err
	}
	s := &staged{Version: v, Withheld: r.Withheld}
	if bundle.Config.Task != task.TextClassification {
		return s, nil
	}
	if s.Reports, err = c.measure(ctx, j, v, r.Bundle); err != nil {
		return nil, err
	}
	return s, nil
}

// splits describes the splits of a dataset for lineage.
func (c *Control) splits(ctx context.Context, ref string) (map[string]registry.Data, error) {
	if ref == "" {
		return nil, nil
	}
	d, err := c.dataset(ctx, ref)
	if err != nil {
		return nil, err
	}
	return splitsOf(d.Manifest), nil
}

func splitsOf(m *dataset.Manifest) map[string]registry.Data {
	out := make(map[string]registry.Data, len(m.Splits))
	for name, info := range m.Splits {
		out[string(name)] = registry.Data{Rows: info.Rows, Digest: info.Digest}
	}
	return out
}

func (c *Control) engineVersion(s trainer.Spec) string {
	d, err := c.drivers.For(s)
	if err != nil {
		return ""
	}
	return d.Version()
}

// checkGraph holds a bundle's graph to what serving relies on.
func checkGraph(path string, config *task.Config) error {
	m, err := onnx.ReadFile(path, onnx.ReadOptions{})
	if err != nil {
		return err
	}
	if err := onnx.Check(m); err != nil {
		return err
	}
	return config.CheckGraph(m.Graph.Inputs, m.Graph.Outputs)
}

// measure evaluates a bundle on the splits of its dataset that it was not
// trained on, and stores the reports.
func (c *Control) measure(ctx context.Context, j trainer.Job, v registry.Version, bundle string) ([]galley.Digest, error) {
	d, err := c.dataset(ctx, j.Data)
	if err != nil {
		return nil, err
	}
	model, err := c.openModel(ctx, bundle, c.forEvaluation())
	if err != nil {
		return nil, err
	}
	defer model.close()
	var digests []galley.Digest
	for _, split := range []dataset.Split{dataset.Valid, dataset.Test} {
		if d.Manifest.Splits[split].Rows == 0 {
			continue
		}
		rows, err := c.records(ctx, d, split)
		if err != nil {
			return nil, err
		}
		report, err := evals.Run(ctx, model, evals.Sequence(rows), model.labels(), evals.Options{SizeBytes: sizeOf(v)})
		if err = joinClose(err, rows); err != nil {
			return nil, err
		}
		report.Model = v.Digest
		report.Dataset = evals.Data{Name: d.Name, Version: d.Version, Digest: d.Digest, Split: string(split)}
		data, err := report.Encode()
		if err != nil {
			return nil, err
		}
		digest, _, err := c.blobs.Put(ctx, strings.NewReader(string(data)))
		if err != nil {
			return nil, err
		}
		digests = append(digests, digest)
	}
	return digests, nil
}

// publish puts a staged model into the registry, points the candidate alias
// at it and tells its job. Each part may have happened before.
func (c *Control) publish(ctx context.Context, o order) error {
	j, err := c.store.Job(ctx, o.Job)
	if err != nil {
		return err
	}
	if j.Phase != trainer.Running || j.Attempt() != o.Attempt || o.Staged == nil {
		return nil
	}
	v, created, err := c.store.Register(ctx, o.Staged.Version)
	if err != nil {
		return err
	}
	for _, digest := range o.Staged.Reports {
		if err := c.addReport(ctx, v, digest); err != nil {
			return err
		}
	}
	line := "published as " + v.Ref()
	if why := o.Staged.Withheld; why != "" {
		line += ", but not as the candidate: " + why
	} else if err := c.pointCandidate(ctx, v, "published by job "+o.Job); err != nil {
		return err
	}
	if !created {
		line = "the same model is registered already, as " + v.Ref()
	}
	if err := c.store.AppendLines(ctx, o.Job, []store.Line{{At: c.now(), Text: line}}); err != nil {
		return err
	}
	_, err = c.step(ctx, o.Job, trainer.Published{At: c.now(), Ref: v.Ref(), Withheld: o.Staged.Withheld}, change{})
	return err
}

// pointCandidate points the candidate alias at a version, unless it points at
// a newer one: other jobs publish at the same time.
func (c *Control) pointCandidate(ctx context.Context, v registry.Version, reason string) error {
	for {
		m, err := c.store.Outline(ctx, v.Name, v.Number)
		if err != nil {
			return err
		}
		candidate, _ := m.Alias(Candidate)
		if candidate.Target >= v.Number {
			return nil
		}
		moved, err := c.store.Promote(ctx, registry.Request{
			Model: v.Name, Alias: Candidate, Target: v.Number, Expect: candidate.Generation,
			By: galley.System, At: c.now(), Reason: reason,
		})
		if galley.CodeOf(err) == galley.Aborted {
			continue // it was moved meanwhile
		}
		if err != nil {
			return err
		}
		c.follow(ctx, moved)
		return nil
	}
}

// addReport records a staged report with its version.
func (c *Control) addReport(ctx context.Context, v registry.Version, digest galley.Digest) error {
	f, _, err := c.blobs.Open(digest)
	if err != nil {
		return err
	}
	defer f.Close()
	report, err := evals.DecodeReport(f)
	if err != nil {
		return err
	}
	report.Ref = v.Ref()
	_, err = c.store.AddReport(ctx, v.Name, v.Number, report, registry.Stamp{By: galley.System, At: c.now()})
	return err
}
