package control

import (
	"context"
	"fmt"

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

// An ExperimentReport is an experiment with what it has come to.
type ExperimentReport struct {
	store.ExperimentRecord
	experiment.Report
	Traffic string // where requests without a version go now: a version, or both arms
	Recent  int64  // requests of the treatment in the guardrails' window; 0 if it does not run
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
	out := ExperimentReport{ExperimentRecord: r, Report: experiment.Judge(r.Experiment, r.Totals), Recent: c.recentRequests(r.Experiment)}
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
