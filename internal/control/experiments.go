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

// Traffic is what experiments need of serving.
type Traffic struct {
	// Route has a model's requests go where an experiment sends them; nil lets
	// them follow the alias prod.
	Route func(model string, r *experiment.Route)
	// Signature opens a version and returns what it takes and gives.
	Signature func(ctx context.Context, model string, number int) (task.Signature, error)
}

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

// An ExperimentReport is an experiment with what it has come to.
type ExperimentReport struct {
	store.ExperimentRecord
	experiment.Report
	Traffic string // where requests without a version go now: a version, or both arms
}

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
	if e.Model, e.Versions[experiment.Control], err = c.armOf(ctx, s.Control); err != nil {
		return e, err
	}
	model, number, err := c.armOf(ctx, s.Treatment)
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
func (c *Control) armOf(ctx context.Context, ref galley.Ref) (model string, number int, err error) {
	v, err := c.resolveVersion(ctx, ref)
	if err == nil {
		return v.Name, v.Number, nil
	}
	if galley.CodeOf(err) == galley.NotFound && ref.Version > 0 {
		if deleted, failed := c.store.Deleted(ctx, ref.Name, ref.Version); failed != nil {
			return "", 0, failed
		} else if deleted {
			return "", 0, galley.Errorf(galley.NotFound, ref.String(), "was deleted").WithRemedy("list what there is with galley models list")
		}
	}
	return "", 0, err
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

// Experiment reports on an experiment.
func (c *Control) Experiment(ctx context.Context, name string) (ExperimentReport, error) {
	if err := c.countAnswers(ctx); err != nil {
		return ExperimentReport{}, err
	}
	r, err := c.store.Experiment(ctx, name)
	if err != nil {
		return ExperimentReport{}, err
	}
	return c.reportOf(ctx, r)
}

// Experiments reports on the newest experiments.
func (c *Control) Experiments(ctx context.Context, limit int) ([]ExperimentReport, error) {
	if err := c.countAnswers(ctx); err != nil {
		return nil, err
	}
	records, err := c.store.Experiments(ctx, limit)
	if err != nil {
		return nil, err
	}
	reports := make([]ExperimentReport, len(records))
	for i, r := range records {
		if reports[i], err = c.reportOf(ctx, r); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

func (c *Control) reportOf(ctx context.Context, r store.ExperimentRecord) (ExperimentReport, error) {
	out := ExperimentReport{ExperimentRecord: r, Report: experiment.Judge(r.Experiment, r.Totals)}
	routing, err := c.store.Routing(ctx, r.Model)
	if err != nil {
		return out, err
	}
	control := galley.Ref{Name: r.Model, Version: r.Versions[experiment.Control]}.String()
	followed, err := registry.ResolveTraffic(ctx, c.store, r.Model, "")
	if err != nil && galley.CodeOf(err) != galley.NotFound {
		return out, err
	}
	switch {
	case len(routing) > 0 && routing[0].State == experiment.Running:
		out.Traffic = "experiment " + routing[0].Name
		if r.State == experiment.Running && err == nil && followed.Number != r.Versions[experiment.Control] {
			out.Warnings = append(out.Warnings, fmt.Sprintf("without the experiment, traffic would go to %s, not to the control", followed.Ref()))
		}
	case len(routing) > 0:
		out.Traffic = galley.Ref{Name: r.Model, Version: routing[0].Versions[experiment.Control]}.String()
	case err == nil:
		out.Traffic = followed.Ref()
	default:
		out.Traffic = control
	}
	return out, nil
}

// SplitExperiment changes the shares of an experiment. The fewest keys change
// their arm.
func (c *Control) SplitExperiment(ctx context.Context, by galley.Actor, name, split string) (ExperimentReport, error) {
	share, err := experiment.ParseSplit(split)
	if err != nil {
		return ExperimentReport{}, err
	}
	return c.stepExperiment(ctx, name, by, "experiment.split", "", func(store.ExperimentRecord) experiment.Event {
		return experiment.Resplit{At: c.now(), Treatment: share}
	})
}

// StopExperiment ends an experiment without a winner: traffic follows the
// alias again.
func (c *Control) StopExperiment(ctx context.Context, by galley.Actor, name, reason string) (ExperimentReport, error) {
	return c.stepExperiment(ctx, name, by, "experiment.stop", reason, func(store.ExperimentRecord) experiment.Event {
		return experiment.Ended{At: c.now(), Reason: reason}
	})
}

// A Decide asks for the winner of an experiment. By force it is Winner.
type Decide struct {
	Force  bool
	Winner experiment.Arm
	Reason string
}

// DecideExperiment ends an experiment with its winner. If that is the
// treatment, the alias prod points at it in the same transaction: what readers
// did is the evidence, and no gate is asked.
func (c *Control) DecideExperiment(ctx context.Context, by galley.Actor, name string, d Decide) (ExperimentReport, error) {
	if err := c.countAnswers(ctx); err != nil {
		return ExperimentReport{}, err
	}
	return c.stepExperiment(ctx, name, by, "experiment.decide", "", func(r store.ExperimentRecord) experiment.Event {
		report := experiment.Judge(r.Experiment, r.Totals)
		event := experiment.Judged{
			At: c.now(), Verdict: report.Verdict, Trusted: !report.Mismatch, Evidence: report.Evidence(r.Experiment), Reason: d.Reason, Prod: r.Prod.Generation,
		}
		if d.Force {
			event.Winner = &d.Winner
		}
		return event
	})
}

// stepExperiment lets an event happen to an experiment, which is made of what
// is stored, and has traffic follow.
func (c *Control) stepExperiment(ctx context.Context, name string, by galley.Actor, action, detail string, event func(store.ExperimentRecord) experiment.Event) (ExperimentReport, error) {
	e, moved, err := c.store.ChangeExperiment(ctx, name, func(r store.ExperimentRecord) (store.ExperimentChange, error) {
		after, effects, err := experiment.Step(r.Experiment, event(r))
		change := store.ExperimentChange{Experiment: after}
		if err != nil || len(effects) == 0 {
			return change, err
		}
		change.Commit = store.Commit{By: by, At: after.Updated, Action: action, Detail: detail}
		if detail == "" && len(after.Stages) > len(r.Stages) {
			change.Commit.Detail = "split " + experiment.FormatSplit(after.Stage().Treatment)
		}
		if d := after.Decision; d != nil && r.Decision == nil {
			change.Commit.Detail = fmt.Sprintf("winner %s %s", d.Winner, after.Ref(d.Winner))
			if d.Forced {
				change.Commit.Detail += " by force: " + after.Reason
			}
			change.Commit.Detail += "; " + d.Evidence
		}
		for _, effect := range effects {
			if p, ok := effect.(experiment.PromoteTreatment); ok {
				change.Promote = &registry.Request{
					Model: after.Model, Alias: registry.Prod, Target: after.Versions[experiment.Treatment], Expect: registry.AnyGeneration,
					By: by, At: after.Updated, Reason: p.Reason, Force: p.Forced,
				}
			}
		}
		return change, nil
	})
	if err != nil {
		return ExperimentReport{}, err
	}
	if moved != nil && moved.From != moved.To {
		c.follow(ctx, *moved)
		c.kick()
	}
	if err := c.reroute(ctx, e.Model); err != nil {
		return ExperimentReport{}, err
	}
	return c.Experiment(ctx, name)
}
