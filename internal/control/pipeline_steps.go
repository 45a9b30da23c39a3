package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/internal/store"
	"galley/registry"
	"galley/trainer"
)

// perform finds out what a step of a pipeline needs: the result that an earlier
// job had of the same inputs, or a job of its own. Measurements and promotions
// are made beside.
func (p *pipeline) perform(ctx context.Context, j trainer.Job, s trainer.StepState) error {
	spec, err := resolved(j, s.ID)
	if err != nil {
		return err
	}
	switch spec.Kind {
	case trainer.KindEval:
		p.aside(ctx, s, func(ctx context.Context) (trainer.StepEnded, error) { return p.c.evalStep(ctx, j.Owner, spec) })
		return nil
	case trainer.KindPromote:
		p.aside(ctx, s, func(ctx context.Context) (trainer.StepEnded, error) {
			return p.c.promoteStep(ctx, j.Owner, spec, j.ID, s.ID)
		})
		return nil
	}
	ctx, release := p.c.blobs.Hold(ctx)
	defer release()
	wanted, err := p.c.resolve(ctx, spec)
	if err != nil {
		return err
	}
	var before *trainer.Job
	if spec.Kind != trainer.KindFederate { // what partners train on now, nobody here knows
		before, err = p.c.sameInputs(ctx, wanted, j.Tenant)
	}
	if err != nil {
		return err
	}
	if before != nil {
		return p.step(ctx, trainer.StepEnded{
			At: p.c.now(), Step: s.ID, Phase: trainer.Succeeded, Job: before.ID, Version: before.Versions[0], Reused: true,
		})
	}
	// The same after a crash, and another one for other inputs.
	key := fmt.Sprintf("%s/%s/%s", j.ID, s.ID, wanted.SpecDigest)
	return p.step(ctx, trainer.StepPinned{At: p.c.now(), Step: s.ID, Job: jobID(spec.Name, j.Owner, key), SpecDigest: wanted.SpecDigest})
}

// resolved is the spec of a step with the results that it names.
func resolved(j trainer.Job, id string) (trainer.Spec, error) {
	for _, step := range j.Spec.Steps {
		if step.ID == id {
			return step.Resolve(j.StepVersions())
		}
	}
	return trainer.Spec{}, galley.Errorf(galley.Internal, j.ID, "has no step %s", id)
}

// submitStep submits the job of a step, whose ID is pinned.
func (c *Control) submitStep(ctx context.Context, pipeline trainer.Job, s trainer.StepState) error {
	spec, err := resolved(pipeline, s.ID)
	if err != nil {
		return err
	}
	ctx, release := c.blobs.Hold(ctx)
	defer release()
	if spec.Kind == trainer.KindFederate {
		_, err := c.createRun(ctx, trainer.Job{ID: s.Job, Owner: pipeline.Owner, Tenant: pipeline.Tenant, Within: pipeline.ID}, spec)
		if galley.CodeOf(err) == galley.AlreadyExists {
			return nil
		}
		return err
	}
	j, err := c.resolve(ctx, spec)
	if err != nil {
		return err
	}
	if err := c.hasRoom(); err != nil {
		return err
	}
	j.ID, j.Owner, j.Tenant, j.Within, j.Phase = s.Job, pipeline.Owner, pipeline.Tenant, pipeline.ID, trainer.Queued
	j.Created = c.now()
	j.Updated, j.QueuedAt = j.Created, j.Created
	_, err = c.create(ctx, j, store.Commit{By: j.Owner, At: j.Created, Action: "job.submit", Detail: string(j.SpecDigest)})
	if galley.CodeOf(err) == galley.AlreadyExists {
		return nil
	}
	if err == nil {
		c.kick()
	}
	return err
}

// How many of the last jobs are looked through for one with the same inputs, so
// many at a time.
const (
	lookedThrough = 1000
	atATime       = 100
)

// sameInputs finds a job of a tenant that succeeded with the same inputs as the
// one that is wanted, and whose version is still here; nil if there is none. One
// that names them as this one does is found by its spec, others among the last
// that succeeded.
func (c *Control) sameInputs(ctx context.Context, wanted trainer.Job, tenant string) (*trainer.Job, error) {
	inputs := wanted.InputsDigest()
	q := store.JobQuery{Phases: []trainer.Phase{trainer.Succeeded}, SpecDigest: wanted.SpecDigest, Limit: atATime}
	for range 1 + lookedThrough/atATime {
		jobs, err := c.store.Jobs(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, j := range jobs {
			if j.Tenant != tenant || j.Spec.Name != wanted.Spec.Name || j.InputsDigest() != inputs {
				continue
			}
			here, err := c.stillHere(ctx, j)
			if err != nil {
				return nil, err
			}
			if here {
				return &j, nil
			}
		}
		switch {
		case q.SpecDigest != "":
			q.SpecDigest = ""
		case len(jobs) < atATime:
			return nil, nil
		default:
			q.Before = jobs[len(jobs)-1].ID
		}
	}
	return nil, nil
}

// stillHere reports whether the version that a job made was not deleted.
func (c *Control) stillHere(ctx context.Context, j trainer.Job) (bool, error) {
	if len(j.Versions) == 0 {
		return false, nil
	}
	ref, err := galley.ParseRef(j.Versions[0])
	if err != nil {
		return false, err
	}
	_, err = c.resolveVersion(ctx, ref)
	if galley.CodeOf(err) == galley.NotFound {
		return false, nil
	}
	return err == nil, err
}

// aside makes a measurement or a promotion beside the pipeline's other steps.
func (p *pipeline) aside(ctx context.Context, s trainer.StepState, act func(context.Context) (trainer.StepEnded, error)) {
	ctx, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	p.busy[s.ID] = cancel
	p.mu.Unlock()
	p.beside.Go(func() {
		defer cancel()
		e, err := act(ctx)
		switch {
		case err == nil:
			e.At, e.Step, e.Phase = p.c.now(), s.ID, trainer.Succeeded
			err = p.step(ctx, e)
		case !momentary(err) && ctx.Err() == nil:
			err = p.fail(ctx, s, err)
		}
		if err != nil && ctx.Err() == nil {
			p.c.log.Error("a step of a pipeline failed; it is tried again", "job", p.id, "step", s.ID, "error", err)
		}
		p.mu.Lock()
		delete(p.busy, s.ID)
		p.mu.Unlock()
		if err == nil || ctx.Err() != nil {
			p.c.pipelines.nudge(p.id)
		}
	})
}

// evalStep measures a version, unless there is a report of the same version on
// the same rows.
func (c *Control) evalStep(ctx context.Context, by galley.Actor, spec trainer.Spec) (e trainer.StepEnded, err error) {
	v, against, err := c.measured(ctx, spec)
	if err != nil {
		return e, err
	}
	on, err := c.gateRows(ctx, v, registry.Version{}, Promotion{Dataset: spec.Data.Dataset, Split: dataset.Split(spec.Data.Split)})
	if err != nil {
		return e, err
	}
	if on.Dataset == "" {
		return e, galley.Errorf(galley.FailedPrecondition, "data", "%s does not say what it was trained on that is still here", v.Ref()).
			WithRemedy("name the data to measure it on: data: {dataset: NAME}")
	}
	e.Version = v.Ref()
	report, digest, err := c.reported(ctx, v, against, on)
	if err != nil {
		return e, err
	}
	if e.Reused = report != nil; !e.Reused {
		on.Ref = galley.Ref{Name: v.Name, Version: v.Number}
		if spec.Against != "" {
			on.Against = galley.Ref{Name: against.Name, Version: against.Number}
		}
		made, ref, err := c.Evaluate(ctx, by, on, nil)
		if err != nil {
			return e, err
		}
		report, digest = made, ref.Digest
	}
	e.Report, e.Found = digest, inFewWords(report, against)
	return e, nil
}

// inFewWords says how right a version is, beside another one if there is one.
func inFewWords(r *evals.Report, against registry.Version) string {
	out := fmt.Sprintf("accuracy %.4f", r.Metrics["accuracy"].Value)
	if other, ok := r.Beside(against.Digest); ok {
		out += fmt.Sprintf(" against %.4f of %s", other.Metrics["accuracy"].Value, against.Ref())
	}
	return fmt.Sprintf("%s on %d rows", out, r.N)
}

// reported finds the newest report of a version on the same rows, beside another
// version if one is named; nil if there is none.
func (c *Control) reported(ctx context.Context, v, against registry.Version, on Evaluation) (*evals.Report, galley.Digest, error) {
	d, err := c.dataset(ctx, on.Dataset)
	if err != nil {
		return nil, "", err
	}
	for _, ref := range slices.Backward(v.Reports) {
		if ref.Split != string(on.Split) || ref.Dataset != d.Ref() {
			continue
		}
		report, err := c.store.Report(ctx, ref.Digest)
		if err != nil {
			return nil, "", err
		}
		_, beside := report.Beside(against.Digest)
		if report.Dataset.Digest == d.Digest && (beside || against.Digest == "") {
			return report, ref.Digest, nil
		}
	}
	return nil, "", nil
}

// measured finds the versions that a step of kind Eval names.
func (c *Control) measured(ctx context.Context, spec trainer.Spec) (v, against registry.Version, err error) {
	ref, err := galley.ParseRef(spec.Version)
	if err != nil {
		return v, against, err
	}
	if v, err = c.resolveVersion(ctx, ref); err != nil || spec.Against == "" {
		return v, against, err
	}
	if ref, err = galley.ParseRef(spec.Against); err != nil {
		return v, against, err
	}
	against, err = c.resolveVersion(ctx, ref)
	return v, against, err
}

// eligible refuses a version whose own job found that it is not to be chosen:
// one with fewer bits that is slower here, or loses too much.
func (c *Control) eligible(ctx context.Context, v registry.Version, alias string) error {
	j, err := c.store.Job(ctx, v.Lineage.Job)
	if galley.CodeOf(err) == galley.NotFound || err == nil && j.Withheld == "" {
		return nil // imported, or nothing is said of it
	}
	if err != nil {
		return err
	}
	return galley.Errorf(galley.FailedPrecondition, v.Ref(), "is not chosen by itself: %s", j.Withheld).
		WithRemedy("promote it by name: galley models promote %s %s", v.Ref(), alias)
}

// promoteStep points an alias at a version through its gate, unless it points
// there or this very step had it do so: someone may have rolled back since.
func (c *Control) promoteStep(ctx context.Context, by galley.Actor, spec trainer.Spec, pipeline, step string) (e trainer.StepEnded, err error) {
	reason := fmt.Sprintf("step %s of pipeline %s", step, pipeline)
	ref, err := galley.ParseRef(spec.Version)
	if err != nil {
		return e, err
	}
	v, err := c.resolveVersion(ctx, ref)
	if err != nil {
		return e, err
	}
	e.Version = v.Ref()
	if err := c.eligible(ctx, v, spec.Alias); err != nil {
		return e, err
	}
	m, err := c.store.Outline(ctx, v.Name, v.Number)
	if err != nil {
		return e, err
	}
	if alias, known := m.Alias(spec.Alias); known {
		changes, err := c.store.History(ctx, v.Name, spec.Alias, store.MaxList)
		if err != nil {
			return e, err
		}
		done := slices.ContainsFunc(changes, func(of registry.Change) bool { return of.Reason == reason && of.To == v.Number })
		if e.Reused = alias.Target == v.Number && !done; done || e.Reused {
			return e, nil
		}
	}
	_, err = c.Promote(ctx, by, Promotion{
		Ref: galley.Ref{Name: v.Name, Version: v.Number}, Alias: spec.Alias, Reason: reason,
		Dataset: spec.Data.Dataset, Split: dataset.Split(spec.Data.Split),
	})
	var refusal *Refusal
	if errors.As(err, &refusal) {
		err = refusal.Err.WithRemedy("submit the pipeline with a better recipe; or, if the machine was busy, measure again with galley eval %s --data %s, then galley jobs resume %s; or promote it whatever the gate says, which is recorded: galley models promote %s %s --force --reason TEXT",
			v.Ref(), cmp.Or(spec.Data.Dataset, v.Lineage.Dataset, "NAME"), pipeline, v.Ref(), spec.Alias)
	}
	return e, err
}
