package control

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"galley"
	"galley/experiment"
	"galley/internal/store"
	"galley/registry"
	"galley/task"
)

// An ExperimentStart asks for an experiment.
type ExperimentStart struct {
	Name               string
	Control, Treatment galley.Ref
	Split              string        // as experiment.ParseSplit reads it; that of the canary's first step if empty
	Canary             string        // as experiment.ParseRamp reads it; empty for fixed shares
	Shadow             float64       // percentage of requests that the treatment is asked beside the control; 0 for a split
	Budget             float64       // of a shadow, a share of the machine; the default if 0
	Every              time.Duration // between the canary's steps; DefaultEvery if 0
	Metric             string
	Unit               string        // outcome if empty
	Guards             []string      // as experiment.ParseGuard reads them; the default ones if nil
	Unguarded          bool          // no guardrails at all
	Window             time.Duration // of the guardrails; the default if 0
	Minimum            int           // of requests in it; the default if 0
}

// DefaultEvery is how long a canary stays at a share at the least.
const DefaultEvery = 10 * time.Minute

// StartExperiment begins an experiment: from its answer on, it splits traffic.
func (c *Control) StartExperiment(ctx context.Context, by galley.Actor, s ExperimentStart) (ExperimentReport, error) {
	e, err := c.newExperiment(ctx, by, s)
	if err != nil {
		return ExperimentReport{}, err
	}
	if err := e.Check(); err != nil {
		return ExperimentReport{}, err
	}
	if err := c.comparable(ctx, e); err != nil {
		return ExperimentReport{}, err
	}
	detail := fmt.Sprintf("control %s, treatment %s, split %s, metric %s, guardrails %v",
		e.Ref(experiment.Control), e.Ref(experiment.Treatment), experiment.FormatSplit(e.Stage().Treatment), e.Metric, e.Guards.Rules)
	_, err = c.store.CreateExperiment(ctx, e, store.Commit{By: by, At: e.Created, Action: "experiment.start", Detail: detail})
	if err != nil {
		return ExperimentReport{}, err
	}
	if err := c.reroute(ctx, e.Model); err != nil {
		return ExperimentReport{}, err
	}
	return c.Experiment(ctx, e.Name)
}

func (c *Control) newExperiment(ctx context.Context, by galley.Actor, s ExperimentStart) (experiment.Experiment, error) {
	now := c.now()
	e := experiment.Experiment{
		Name: s.Name, Unit: experiment.Unit(s.Unit), Guards: experiment.DefaultGuards(), Salt: make([]byte, experiment.SaltSize),
		State: experiment.Running, Owner: by, Created: now, Updated: now,
	}
	// The system's randomness does not fail.
	_, _ = rand.Read(e.Salt)
	if e.Unit == "" {
		e.Unit = experiment.PerOutcome
	}
	share := 0
	var err error
	if s.Canary != "" {
		if s.Every == 0 {
			s.Every = DefaultEvery
		}
		if e.Ramp, err = experiment.ParseRamp(s.Canary, s.Every); err != nil {
			return e, err
		}
		share = e.Ramp.Shares[0]
	}
	if s.Shadow != 0 {
		if e.Shadow, err = experiment.NewShadow(s.Shadow, s.Budget); err != nil {
			return e, err
		}
		if s.Metric == "" {
			s.Metric = string(experiment.Agreement)
		}
	}
	if s.Split != "" || e.Ramp == nil && e.Shadow == nil {
		if share, err = experiment.ParseSplit(s.Split); err != nil {
			return e, err
		}
	}
	e.Stages = []experiment.Stage{{Treatment: share, Since: now}}
	if e.Metric, err = experiment.ParseMetric(s.Metric); err != nil {
		return e, err
	}
	if len(s.Guards) > 0 || s.Unguarded {
		e.Guards.Rules = []experiment.Guard{}
	}
	for _, text := range s.Guards {
		g, err := experiment.ParseGuard(text)
		if err != nil {
			return e, err
		}
		e.Guards.Rules = append(e.Guards.Rules, g)
	}
	if s.Window != 0 {
		e.Guards.Window = s.Window
	}
	if s.Minimum != 0 {
		e.Guards.MinimumRequests = s.Minimum
	}
	if e.Model, e.Versions[experiment.Control], err = c.armOf(ctx, experiment.Control, s.Control); err != nil {
		return e, err
	}
	model, number, err := c.armOf(ctx, experiment.Treatment, s.Treatment)
	if err != nil {
		return e, err
	}
	if model != e.Model {
		return e, galley.Errorf(galley.InvalidArgument, e.Name, "%s and %s are of different models, and requests name one", s.Control, s.Treatment).
			WithRemedy("register the treatment as a version of %s: export it, then galley models import FILE --name %s", e.Model, e.Model)
	}
	e.Versions[experiment.Treatment] = number
	return e, nil
}

// armOf finds the version of an arm; it says so if it was deleted.
func (c *Control) armOf(ctx context.Context, arm experiment.Arm, ref galley.Ref) (model string, number int, err error) {
	v, err := c.resolveVersion(ctx, ref)
	if err == nil {
		return v.Name, v.Number, nil
	}
	if galley.CodeOf(err) != galley.NotFound {
		return "", 0, err
	}
	if ref.Version > 0 {
		if deleted, failed := c.store.Deleted(ctx, ref.Name, ref.Version); failed != nil {
			return "", 0, failed
		} else if deleted {
			return "", 0, galley.Errorf(galley.NotFound, arm.String(), "%s was deleted", ref).WithRemedy("list what there is with galley models list")
		}
	}
	e := galley.AsError(err)
	return "", 0, galley.Errorf(galley.NotFound, arm.String(), "%s: %s", ref, e.Message).WithRemedy("%s", e.Remedy)
}

// comparable holds that who asks one arm can ask the other, too: both have the
// same labels, inputs and outputs. It opens both.
func (c *Control) comparable(ctx context.Context, e experiment.Experiment) error {
	var versions [2]registry.Version
	var signatures [2]task.Signature
	for _, arm := range experiment.Arms {
		var err error
		if versions[arm], err = c.store.Version(ctx, e.Model, e.Versions[arm]); err != nil {
			return err
		}
		if c.traffic.Signature == nil {
			continue
		}
		if signatures[arm], err = c.traffic.Signature(ctx, e.Model, e.Versions[arm]); err != nil {
			return err
		}
	}
	different := func(what, control, treatment string) error {
		return galley.Errorf(galley.FailedPrecondition, e.Name, "%s has other %s than %s: %s instead of %s",
			e.Ref(experiment.Treatment), what, e.Ref(experiment.Control), galley.Clip(treatment, 200), galley.Clip(control, 200)).
			WithRemedy("compare versions that callers can ask alike; a change of the signature is a new model")
	}
	if a, b := versions[0], versions[1]; a.Task != b.Task || !slices.Equal(a.Labels, b.Labels) {
		if a.Task != b.Task {
			return different("task", quoted(a.Task), quoted(b.Task))
		}
		return different("labels", listed(a.Labels), listed(b.Labels))
	}
	for _, side := range []struct {
		what string
		of   func(task.Signature) []task.Field
	}{
		{"inputs", func(s task.Signature) []task.Field { return s.Inputs }},
		{"outputs", func(s task.Signature) []task.Field { return s.Outputs }},
	} {
		if a, b := fields(side.of(signatures[0])), fields(side.of(signatures[1])); a != b {
			return different(side.what, a, b)
		}
	}
	return nil
}

func quoted(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func listed(s []string) string { return quoted(strings.Join(s, ", ")) }

// fields writes inputs or outputs in the order of their names.
func fields(fields []task.Field) string {
	var parts []string
	for _, f := range fields {
		parts = append(parts, fmt.Sprintf("%s %s %v", f.Name, f.Datatype, f.Shape))
	}
	slices.Sort(parts)
	return listed(parts)
}
