package main

import (
	"context"
	"errors"
	"os"

	"galley"
	"galley/internal/blob"
	"galley/internal/ort/probe"
	"galley/internal/processors"
	"galley/onnx/session"
	"galley/registry"
	"galley/serving"
	"galley/task"
)

// sessionOptions are those of a version that is served: one thread a run, as
// many runs at a time as there are cores. Measured with MiniLM on two cores,
// titles of a median of 20 tokens: a run on one thread takes 6.5 to 7.7 ms of
// processor time, one on two threads 6.8 to 11.4 ms and no less time on the
// clock; a thread that spins while it waits would take more still.
func sessionOptions(label string) session.Options {
	return session.Options{Threads: 1, NoMemoryPattern: true, NoSpinning: true, Label: label}
}

// opener opens registered versions for requests, straight from their blobs.
// Versions that were not trained here are tried in a process of their own
// first. One is loaded at a time, beside the requests for the others.
func opener(blobs *blob.Store, r session.Opener, prober *probe.Prober) serving.OpenFunc {
	loading := make(chan struct{}, 1)
	return func(ctx context.Context, v registry.Version) (*serving.Servable, error) {
		graph, ok := v.Artifact(task.ModelFile)
		if !ok {
			return nil, galley.Errorf(galley.FailedPrecondition, v.Ref(), "has no graph")
		}
		path, err := blobs.VerifiedPath(ctx, graph.Digest)
		if err != nil {
			return nil, unreadable(v, err)
		}
		if v.Lineage.Job == "" {
			if err := prober.Check(ctx, graph.Digest, path, v.Ref()); err != nil {
				return nil, err
			}
		}
		loading <- struct{}{}
		defer func() { <-loading }()
		var s session.Session
		processors.Background(func() { s, err = r.OpenFile(ctx, path, sessionOptions(v.Ref())) })
		if err != nil {
			return nil, err
		}
		servable, err := wrap(blobs, v, s)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		return servable, nil
	}
}

// unreadable says which version lacks what a blob was to hold.
func unreadable(v registry.Version, err error) error {
	e := galley.AsError(err)
	return galley.Errorf(e.Code, v.Ref(), "cannot be opened: %w", err).WithRemedy("%s", e.Remedy)
}

// A cautious opener tries a file in a process of its own before it opens it:
// what is evaluated may have been imported.
type cautious struct {
	session.Opener
	prober *probe.Prober
}

func (c cautious) OpenFile(ctx context.Context, path string, opts session.Options) (session.Session, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, probe.Unreadable(opts.Label, err)
	}
	digest, _, err := galley.DigestReader(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, probe.Unreadable(opts.Label, err)
	}
	if err := c.prober.Check(ctx, digest, path, opts.Label); err != nil {
		return nil, err
	}
	return c.Opener.OpenFile(ctx, path, opts)
}

// wrap puts the version's task around its graph.
func wrap(blobs *blob.Store, v registry.Version, s session.Session) (*serving.Servable, error) {
	if _, ok := v.Artifact(task.ConfigFile); !ok {
		return serving.NewGraph(v, s), nil
	}
	bundle, err := task.OpenBundle(artifacts{blobs, v})
	if err != nil {
		return nil, err
	}
	if bundle.Config.Task != task.TextClassification {
		return serving.NewGraph(v, s), nil
	}
	classifier, err := task.NewTextClassifier(bundle.Config, bundle.Tokenizer)
	if err != nil {
		return nil, err
	}
	return serving.NewTextClassifier(v, classifier, s)
}
