package control

import (
	"context"

	"galley"
	"galley/internal/auth"
	"galley/internal/store"
	"galley/trainer"
)

// submitPipeline stores a job of kind Pipeline, which runs from now on.
func (c *Control) submitPipeline(ctx context.Context, by galley.Actor, spec trainer.Spec, key string) (trainer.Job, error) {
	caller, _ := auth.CallerOf(ctx)
	j := trainer.Job{
		ID: jobID(spec.Name, by, key), Spec: spec, SpecDigest: spec.Digest(), Owner: by, Tenant: tenantOf(ctx, by), OnBehalf: caller.Tenant,
		Phase: trainer.Running, Steps: spec.Begin(), Created: c.now(),
	}
	j.Updated, j.Progress.Steps = j.Created, len(spec.Steps)
	if err := mayPromote(ctx, j); err != nil {
		return j, err
	}
	for _, step := range spec.Steps {
		if err := c.feasible(ctx, step); err != nil {
			return j, inStep(step.ID, err)
		}
	}
	if n := c.pipelines.count(); n >= maxPipelines {
		return j, galley.Errorf(galley.ResourceExhausted, "pipelines", "%d run already", n).WithRemedy("wait for some to end, or cancel some")
	}
	stored, err := c.create(ctx, j, store.Commit{By: by, At: j.Created, Action: "job.submit", Detail: string(j.SpecDigest)})
	if galley.CodeOf(err) == galley.AlreadyExists && key != "" {
		return c.submitted(ctx, j.ID, j.SpecDigest)
	}
	// One whose write failed may have been stored all the same.
	c.drivePipeline(j.ID)
	return stored, err
}

// mayPromote asks for the permission to promote if a step that is still to be
// done promotes: the pipeline will do so as its owner.
func mayPromote(ctx context.Context, j trainer.Job) error {
	caller, ok := auth.CallerOf(ctx)
	if !ok {
		return nil
	}
	for i, s := range j.Spec.Steps {
		if s.Spec.Kind == trainer.KindPromote && j.Steps[i].Phase != trainer.Succeeded {
			if err := caller.Require(auth.Promote, "step "+s.ID+", which promotes"); err != nil {
				return err
			}
		}
	}
	return nil
}

// inStep says which step an error is about.
func inStep(id string, err error) error {
	e := galley.AsError(err)
	out := galley.Errorf(e.Code, "steps."+id, "%s", e.Message)
	if e.Subject != "" {
		out = galley.Errorf(e.Code, "steps."+id, "%s: %s", e.Subject, e.Message)
	}
	out.Remedy, out.Cause = e.Remedy, err
	return out
}

// feasible checks a step against what there is before anything starts. What
// depends on other steps is checked when they have succeeded.
func (c *Control) feasible(ctx context.Context, step trainer.PipelineStep) error {
	spec, first := step.Spec, len(step.Requires()) == 0
	switch spec.Kind {
	case trainer.KindEval, trainer.KindPromote:
		for _, name := range []string{spec.Version, spec.Against} {
			ref, err := galley.ParseRef(name)
			if err != nil || !first {
				continue // of a version that is still to be made
			}
			if _, err := c.resolveVersion(ctx, ref); err != nil {
				return err
			}
		}
	default:
		if first && spec.Kind == trainer.KindFederate {
			_, _, err := c.resolveRun(ctx, "", spec)
			return err
		}
		if first {
			_, err := c.resolve(ctx, spec)
			return err
		}
		if _, err := c.drivers.For(spec); err != nil {
			return err
		}
		if err := c.reachable(ctx, spec.Needs); err != nil {
			return err
		}
		if err := c.tooLarge(trainer.Job{Spec: spec, Memory: spec.MemoryNeed(0)}); err != nil {
			return err
		}
		if err := noFiles(spec); err != nil {
			return err
		}
	}
	for _, name := range []string{spec.Data.Dataset, spec.Data.Unlabelled} {
		if name == "" {
			continue
		}
		d, err := c.dataset(ctx, name)
		if err != nil {
			return err
		}
		if name == spec.Data.Dataset {
			err = fits(spec, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
