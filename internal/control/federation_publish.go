package control

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/durable"
	"galley/internal/store"
	"galley/onnx"
	"galley/registry"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
)

// roundsFolder is where the model is, below the job's work folder, that has the
// weights which the rounds made.
const roundsFolder = "rounds"

// maxPublications is how often making a version of rounds is tried.
const maxPublications = 5

// publishRun makes a version of what the rounds of a federation made, and has
// it published as any other. Doing it again gives one version: it is named in
// the store before it is registered, and by its job then.
func (c *Control) publishRun(ctx context.Context, j trainer.Job, r *run) {
	for wait, n := c.patience, 1; ; wait, n = min(2*wait, 30*c.patience), n+1 {
		err := c.tryPublish(ctx, j, r)
		if err == nil || ctx.Err() != nil {
			return
		}
		again := n < maxPublications && passing(galley.AsError(err))
		c.log.Error("rounds cannot become a version", "job", r.job, "error", err, "again", again)
		if !again {
			if err = c.failRun(ctx, r, err); err == nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (c *Control) tryPublish(ctx context.Context, j trainer.Job, r *run) error {
	select {
	case c.evaluating <- struct{}{}:
		defer func() { <-c.evaluating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	f, err := c.stored(ctx, r)
	if err != nil {
		return err
	}
	held, release := c.blobs.Hold(ctx) // what is staged, until an effect names it
	defer release()
	s, err := c.settleRun(held, j, f)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.stageRun(ctx, r, s)
}

// settleRun makes a model of the last weights, as the engine leaves it, and
// stages it.
func (c *Control) settleRun(ctx context.Context, j trainer.Job, f store.Federation) (*staged, error) {
	q, err := c.request(ctx, j)
	if err != nil {
		return nil, err
	}
	if q.Parent, err = c.putWeights(ctx, q.Parent, filepath.Join(q.WorkDir, roundsFolder), f); err != nil {
		return nil, err
	}
	driver, err := c.drivers.For(j.Spec)
	if err != nil {
		return nil, err
	}
	result, err := driver.Train(ctx, q, func(engine.Event) {})
	if err != nil {
		return nil, err
	}
	s, err := c.stage(ctx, j, result)
	if err != nil {
		return nil, err
	}
	if s.Version.Lineage.Federation, err = c.roundsOf(ctx, f); err != nil {
		return nil, err
	}
	s.Version, err = s.Version.Complete()
	return s, err
}

// putWeights writes the model in a folder anew, with a federation's weights in
// its graph, and returns the new folder.
func (c *Control) putWeights(ctx context.Context, from, to string, f store.Federation) (string, error) {
	m, weights, err := federated(filepath.Join(from, task.ModelFile))
	if err != nil {
		return "", err
	}
	file, _, err := c.blobs.OpenVerified(ctx, f.Base)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if _, err := federation.ReadTensors(file, weights); err != nil {
		return "", galley.Errorf(galley.DataLoss, string(f.Base), "are not weights of %s: %w", from, err)
	}
	if err := os.RemoveAll(to); err != nil {
		return "", durable.WriteError(to, err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return "", durable.WriteError(to, err)
	}
	for _, name := range []string{task.ConfigFile, task.TokenizerFile} {
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return "", err
		}
	}
	return to, onnx.WriteFile(filepath.Join(to, task.ModelFile), m, onnx.WriteOptions{})
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return durable.ReadError(from, err)
	}
	return durable.Write(to, 0o600, data)
}

func openFile(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	return f, nil
}

// stageRun stores that a run's model is on its way, with the effect that
// publishes it. A run that is to be cancelled meanwhile has none.
func (c *Control) stageRun(ctx context.Context, r *run, s *staged) error {
	ctx = context.WithoutCancel(ctx)
	r.changing.Lock()
	defer r.changing.Unlock()
	j, err := c.store.Job(ctx, r.job)
	if err != nil || j.Phase != trainer.Running || j.Cancelling {
		return err
	}
	f, err := c.stored(ctx, r)
	if err != nil || f.Staged {
		return err
	}
	payload, err := json.Marshal(order{Job: r.job, Staged: s})
	if err != nil {
		return galley.Errorf(galley.Internal, r.job, "its version cannot be stored: %w", err)
	}
	f.Staged = true
	stored, _, err := c.store.SaveFederation(ctx, store.FederationChange{
		Federation: f, Commit: store.Commit{By: galley.System, At: c.now(), Effects: []store.Effect{{Kind: publishModel, Payload: payload}}},
	})
	if err != nil {
		r.set(nil)
		return err
	}
	r.set(&stored)
	c.kick()
	return nil
}

// roundsOf says for lineage what a federation's weights were made of.
func (c *Control) roundsOf(ctx context.Context, f store.Federation) (*registry.Federation, error) {
	out := &registry.Federation{Run: f.Job, Name: f.Terms.Federation}
	parts := map[registry.FederationPartner]int{}
	err := c.store.ClosedRounds(ctx, f.Job, func(r store.Round) error {
		out.Rounds = append(out.Rounds, registry.FederationRound{Round: r.Number, Attempt: r.Attempt, Record: r.Digest})
		out.SingleUpdatesSeen = out.SingleUpdatesSeen || r.SingleUpdatesSeen
		for _, e := range r.Cohort {
			if e.Standing == federation.Accepted {
				parts[registry.FederationPartner{Name: e.Partner, Agreement: e.Agreement}]++
			}
		}
		return nil
	})
	for p, n := range parts {
		p.Rounds = n
		out.Partners = append(out.Partners, p)
	}
	out.Sort()
	return out, err
}

// partnersLine names the partners of a federated model.
func partnersLine(f *registry.Federation) string {
	if f == nil {
		return ""
	}
	var names []string
	for _, p := range f.Partners {
		if len(names) == 0 || names[len(names)-1] != p.Name {
			names = append(names, p.Name)
		}
	}
	return strings.Join(names, ", ")
}
