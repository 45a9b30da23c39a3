package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/experiment"
	"galley/internal/control"
)

// Experiments answers the API of experiments.
type Experiments struct {
	controlpb.UnimplementedExperimentsServer
	control *control.Control
}

var _ controlpb.ExperimentsServer = (*Experiments)(nil)

// NewExperiments makes the API's handlers over c.
func NewExperiments(c *control.Control) *Experiments { return &Experiments{control: c} }

// StartExperiment begins to split a model's traffic.
func (s *Experiments) StartExperiment(ctx context.Context, r *controlpb.StartExperimentRequest) (*controlpb.Experiment, error) {
	start := control.ExperimentStart{
		Name: r.GetExperiment(), Split: r.GetSplit(), Metric: r.GetMetric(), Unit: r.GetUnit(), Guards: r.GetGuardrails(), Unguarded: r.GetUnguarded(),
		Shadow: r.GetShadow(), Budget: r.GetBudget(), Canary: r.GetCanary(), Every: r.GetEvery().AsDuration(), Window: r.GetWindow().AsDuration(), Minimum: int(r.GetMinimumRequests()),
	}
	var err error
	if start.Control, err = galley.ParseRef(r.GetControl()); err != nil {
		return nil, statusOf(err)
	}
	if start.Treatment, err = galley.ParseRef(r.GetTreatment()); err != nil {
		return nil, statusOf(err)
	}
	return experimentAnswer(s.control.StartExperiment(ctx, actorOf(ctx), start))
}

// ListExperiments returns the newest first.
func (s *Experiments) ListExperiments(ctx context.Context, r *controlpb.ListExperimentsRequest) (*controlpb.ListExperimentsResponse, error) {
	reports, err := s.control.Experiments(ctx, int(r.GetLimit()))
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.ListExperimentsResponse{}
	for _, r := range reports {
		out.Experiments = append(out.Experiments, experimentOf(r))
	}
	return out, nil
}

// GetExperiment returns an experiment with its figures.
func (s *Experiments) GetExperiment(ctx context.Context, r *controlpb.ExperimentRequest) (*controlpb.Experiment, error) {
	return experimentAnswer(s.control.Experiment(ctx, r.GetExperiment()))
}

// SplitExperiment changes the shares.
func (s *Experiments) SplitExperiment(ctx context.Context, r *controlpb.SplitExperimentRequest) (*controlpb.Experiment, error) {
	return experimentAnswer(s.control.SplitExperiment(ctx, actorOf(ctx), r.GetExperiment(), r.GetSplit()))
}

// StopExperiment ends an experiment without a winner.
func (s *Experiments) StopExperiment(ctx context.Context, r *controlpb.StopExperimentRequest) (*controlpb.Experiment, error) {
	return experimentAnswer(s.control.StopExperiment(ctx, actorOf(ctx), r.GetExperiment(), r.GetReason()))
}

// DecideExperiment ends an experiment with its winner.
func (s *Experiments) DecideExperiment(ctx context.Context, r *controlpb.DecideExperimentRequest) (*controlpb.Experiment, error) {
	d := control.Decide{Force: r.GetForce(), Winner: experiment.Treatment, Reason: r.GetReason()}
	switch r.GetWinner() {
	case "", experiment.Treatment.String():
	case experiment.Control.String():
		d.Winner = experiment.Control
	default:
		return nil, statusOf(galley.Errorf(galley.InvalidArgument, "winner", "%q is not an arm", printable(r.GetWinner())).WithRemedy("write control or treatment"))
	}
	if r.GetWinner() != "" && !d.Force {
		return nil, statusOf(galley.Errorf(galley.InvalidArgument, "winner", "is what the figures say").WithRemedy("name a winner with force only"))
	}
	return experimentAnswer(s.control.DecideExperiment(ctx, actorOf(ctx), r.GetExperiment(), d))
}

func experimentAnswer(r control.ExperimentReport, err error) (*controlpb.Experiment, error) {
	if err != nil {
		return nil, statusOf(err)
	}
	return experimentOf(r), nil
}

func experimentOf(r control.ExperimentReport) *controlpb.Experiment {
	out := &controlpb.Experiment{
		Experiment: r.Name, Model: r.Model, State: string(r.State), Metric: string(r.Metric), Unit: string(r.Unit), Verdict: string(r.Verdict),
		Difference: []float64{r.Difference.Low, r.Difference.High}, SampleRatioP: r.MismatchP, SampleRatioMismatch: r.Mismatch,
		Warnings: r.Warnings, Traffic: r.Traffic, Window: durationpb.New(r.Guards.Window), MinimumRequests: int32(r.Guards.MinimumRequests), RecentRequests: r.Recent,
		Reason: r.Reason, By: utf8Text(string(r.Owner)), Started: timestamppb.New(r.Created),
	}
	for _, g := range r.Guards.Rules {
		out.Guardrails = append(out.Guardrails, g.String())
	}
	if r.Ramp != nil {
		for _, share := range r.Ramp.Shares {
			out.Canary = append(out.Canary, experiment.Stage{Treatment: share}.Share(experiment.Treatment))
		}
	}
	if r.Shadow != nil {
		out.Shadow, out.Budget = float64(r.Shadow.Share)/experiment.Parts, r.Shadow.Budget
	}
	if _, at, ok := r.Next(); ok {
		out.Next = timestamppb.New(at)
	}
	for _, a := range experiment.Arms {
		arm := r.Arms[a]
		x := &controlpb.ExperimentArm{
			Arm: a.String(), Ref: r.Ref(a), Share: r.Stage().Share(a), N: int64(arm.Counted.N), Interval: []float64{arm.Rate.Low, arm.Rate.High},
			Requests: arm.Requests, Errors: arm.Errors, Empty: arm.Empty, Outcomes: int64(arm.Outcomes.N), Keys: int64(arm.Keys.N),
		}
		if arm.Counted.N > 0 {
			mean := arm.Counted.Mean()
			x.Metric = &mean
		}
		out.Arms = append(out.Arms, x)
	}
	if b := r.Breach; b != nil {
		out.Breach = &controlpb.ExperimentBreach{Guardrail: b.Guard.String(), Value: b.Value, At: timestamppb.New(b.At)}
		for _, a := range experiment.Arms {
			f := b.Figures[a]
			out.Breach.Figures = append(out.Breach.Figures, &controlpb.ExperimentFigures{
				Arm: a.String(), Requests: f.Requests, Errors: f.Errors, Empty: f.Empty, P99: durationpb.New(f.P99),
			})
		}
	}
	if d := r.Decision; d != nil {
		out.Winner, out.Forced = d.Winner.String(), d.Forced
	}
	if r.Ended != nil {
		out.Ended = timestamppb.New(*r.Ended)
	}
	return out
}
