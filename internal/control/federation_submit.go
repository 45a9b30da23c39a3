package control

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"galley"
	"galley/federation"
	"galley/internal/store"
	"galley/onnx"
	"galley/registry"
	"galley/task"
	"galley/trainer"
	"galley/trainer/objective"
)

// maxRuns bounds the federations that run; each has a goroutine.
const maxRuns = 100

// submitFederation stores a job of kind Federate, which runs from now on.
func (c *Control) submitFederation(ctx context.Context, by galley.Actor, spec trainer.Spec, key string) (trainer.Job, error) {
	ctx, release := c.blobs.Hold(ctx)
	defer release()
	id := jobID(spec.Name, by, key)
	j, err := c.createRun(ctx, trainer.Job{ID: id, Owner: by, Tenant: tenantOf(ctx, by)}, spec)
	if galley.CodeOf(err) == galley.AlreadyExists && key != "" {
		return c.submitted(ctx, id, spec.Digest())
	}
	return j, err
}

// createRun checks a spec of kind Federate against what there is, and stores
// the job, whose ID and owner are given, with its federation.
func (c *Control) createRun(ctx context.Context, given trainer.Job, spec trainer.Spec) (trainer.Job, error) {
	j, v, err := c.resolveRun(ctx, given.ID, spec)
	if err != nil {
		return j, err
	}
	j.ID, j.Owner, j.Tenant, j.Within, j.Phase = given.ID, given.Owner, given.Tenant, given.Within, trainer.Running
	j.Created = c.now()
	j.Updated, j.Progress.Steps = j.Created, spec.Rounds
	f, err := c.newFederation(ctx, j, v)
	if err != nil {
		return j, err
	}
	commit := store.Commit{By: j.Owner, At: j.Created, Action: "job.submit", Detail: string(j.SpecDigest)}
	c.commits.Lock()
	stored, _, err := c.store.CreateFederation(ctx, j, f, commit)
	err = c.noted(stored, err)
	c.commits.Unlock()
	switch galley.CodeOf(err) {
	case galley.AlreadyExists, galley.FailedPrecondition, galley.InvalidArgument, galley.PermissionDenied:
		return stored, err
	}
	// One whose write failed may have been stored all the same.
	c.beginRun(j)
	c.driveFederation(j.ID)
	return stored, err
}

// resolveRun is resolve for a spec of kind Federate, with the version that its
// rounds begin with.
func (c *Control) resolveRun(ctx context.Context, id string, spec trainer.Spec) (trainer.Job, registry.Version, error) {
	var v registry.Version
	if r, ok := c.federations.named(spec.Federation); ok && r.job != id {
		// It may have ended this moment; the store says so in the end.
		if other, err := c.store.Job(ctx, r.job); err == nil && other.Phase == trainer.Running {
			return trainer.Job{}, v, galley.Errorf(galley.FailedPrecondition, "federation", "%s runs already, as job %s", spec.Federation, r.job).
				WithRemedy("wait for it, or cancel it: galley jobs cancel %s", r.job)
		}
	}
	if n := c.federating.count(); n >= maxRuns {
		return trainer.Job{}, v, galley.Errorf(galley.ResourceExhausted, "federations", "%d run already", n).WithRemedy("wait for some to end, or cancel some")
	}
	j, err := c.resolve(ctx, spec)
	if err != nil {
		return j, v, err
	}
	if j.ParentRef == "" {
		return j, v, galley.Errorf(galley.InvalidArgument, "from", "is an upload").
			WithRemedy("import it first: galley models import; or train a version from it")
	}
	ref, err := galley.ParseRef(j.ParentRef)
	if err != nil {
		return j, v, err
	}
	if v, err = c.resolveVersion(ctx, ref); err != nil {
		return j, v, err
	}
	if v.Task != string(task.TextClassification) || len(v.Labels) < 2 {
		return j, v, galley.Errorf(galley.FailedPrecondition, "from", "%s is no text classifier with labels", v.Ref()).
			WithRemedy("train one first, with kind: Train")
	}
	d, err := c.dataset(ctx, j.Data)
	if err != nil {
		return j, v, err
	}
	for _, label := range d.Manifest.Labels {
		if !slices.Contains(v.Labels, label) {
			return j, v, galley.Errorf(galley.FailedPrecondition, "data.dataset", "%s has the label %q, which %s has not", d.Ref(), galley.Clip(label, 80), v.Ref()).
				WithRemedy("its labels are %s", galley.Clip(strings.Join(v.Labels, ", "), 500))
		}
	}
	for _, name := range spec.Partners {
		if _, ok := c.roll.named(name); !ok {
			return j, v, galley.Errorf(galley.NotFound, "partners", "%s is not enrolled", name).
				WithRemedy("take its certificate in: galley federation enrol %s --cert FILE", name)
		}
	}
	return j, v, nil
}

// newFederation makes the federation of a job, with those who have joined. Its
// base is a blob that the hold of ctx keeps.
func (c *Control) newFederation(ctx context.Context, j trainer.Job, from registry.Version) (federation.Federation, error) {
	var f federation.Federation
	base, layout, err := c.firstWeights(ctx, from)
	if err != nil {
		return f, err
	}
	terms, err := termsOf(j, layout)
	if err != nil {
		return f, err
	}
	if f, err = federation.New(terms, base, j.Created); err != nil {
		return f, err
	}
	memberships, err := c.store.Memberships(ctx, "", terms.Federation)
	if err != nil {
		return f, err
	}
	for _, m := range memberships {
		p, ok := c.roll.named(m.Partner)
		if !ok || p.Revoked != "" || len(j.Spec.Partners) > 0 && !slices.Contains(j.Spec.Partners, m.Partner) {
			continue
		}
		if f, _, err = federation.Advance(f, federation.Joined{Member: federation.Member{Name: m.Partner, Key: p.key, Agreement: m.Agreement}}); err != nil {
			return f, err
		}
	}
	return f, nil
}

// termsOf are what a job's rounds have in common.
func termsOf(j trainer.Job, layout galley.Digest) (federation.Terms, error) {
	s := j.Spec
	recipe, err := s.LocalRecipe()
	if err != nil {
		return federation.Terms{}, galley.Errorf(galley.InvalidArgument, "recipe", "cannot be written: %w", err)
	}
	return federation.Terms{
		Federation: s.Federation, Run: j.ID, Purpose: s.Purpose, Model: s.Name, Layout: layout,
		Rounds: s.Rounds, Attempts: s.Attempts, Pause: s.Pausing(), Within: s.Within(), Sample: s.Sample, Enough: s.Enough, MinCohort: s.MinCohort,
		Strategy: federation.Strategy(s.Strategy), Mu: s.Mu, Weighting: federation.Weighting(s.Weighting),
		MaxShare: s.MaxShare, Clip: s.Clip, MaxNorm: s.MaxNorm, Metrics: s.Metrics, Seed: s.Recipe.Seed, Recipe: recipe,
	}, nil
}

// firstWeights stores the weights that partners train, as they are in a version.
func (c *Control) firstWeights(ctx context.Context, v registry.Version) (base, layout galley.Digest, err error) {
	a, ok := v.Artifact(task.ModelFile)
	if !ok {
		return "", "", galley.Errorf(galley.FailedPrecondition, "from", "%s has no %s", v.Ref(), task.ModelFile)
	}
	path, err := c.blobs.VerifiedPath(ctx, a.Digest)
	if err != nil {
		return "", "", err
	}
	_, weights, err := federated(path)
	if err != nil {
		return "", "", err
	}
	l, err := federation.LayoutOf(weights)
	if err != nil {
		return "", "", err
	}
	base, err = c.putWritten(ctx, func(w io.Writer) (galley.Digest, error) { return federation.WriteTensors(w, weights) })
	return base, l.Digest(), err
}

// federated reads a graph, with those of its tensors that partners train.
func federated(path string) (*onnx.Model, []*onnx.Tensor, error) {
	m, err := onnx.ReadFile(filepath.Clean(path), onnx.ReadOptions{})
	if err != nil {
		return nil, nil, err
	}
	weights, err := objective.Federated(m)
	return m, weights, err
}

// putWritten stores what a function writes as a blob, whose digest it knows.
func (c *Control) putWritten(ctx context.Context, write func(io.Writer) (galley.Digest, error)) (galley.Digest, error) {
	r, w := io.Pipe()
	var digest galley.Digest
	written := make(chan error, 1)
	go func() {
		var err error
		digest, err = write(w)
		w.CloseWithError(err) // nil is the end of the file
		written <- err
	}()
	stored, _, err := c.blobs.Put(ctx, r)
	r.CloseWithError(context.Canceled) // of a writer that goes on
	if failed := <-written; err == nil {
		err = failed
	}
	if err == nil && stored != digest {
		err = galley.Errorf(galley.Internal, string(digest), "was stored as %s", stored)
	}
	return stored, err
}
