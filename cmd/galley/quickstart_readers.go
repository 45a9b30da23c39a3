package main

import (
	"context"
	"fmt"
	"math"

	"google.golang.org/protobuf/types/known/structpb"

	controlpb "galley/api/control/v1"
	newsroompb "galley/api/newsroom/v1"

	"galley"
)

// A tally is what readers saw of a version.
type tally struct{ n, right int }

func (t tally) rate() float64 { return float64(t.right) / float64(t.n) }

// What the experiment of the quickstart is.
const (
	readers    = "readers"
	mistake    = "to let readers find it"
	lookEvery  = 10 // readers between two looks at the figures
	comingBack = 20 // readers who ask a second time
)

// reader is the request key of a reader.
func reader(i int) string { return fmt.Sprintf("reader-%d", i+1) }

// experiment puts the worse version into production and has readers compare it
// with the better one, until the verdict is there: each asks a headline of the
// test split, and its label is what they say of the answer.
func (s *story) experiment(ctx context.Context) (string, error) {
	if _, err := s.client.control.Promote(ctx, &controlpb.PromoteRequest{Ref: s.worse, Alias: "prod", Force: true, Reason: mistake}); err != nil {
		return "", err
	}
	if _, err := s.client.experiments.StartExperiment(ctx, &controlpb.StartExperimentRequest{
		Experiment: readers, Control: "headlines:prod", Treatment: s.model, Split: "50/50", Metric: "accuracy",
	}); err != nil {
		return "", err
	}
	seen := map[string]tally{}
	var answered []string // which version, by reader
	var e *controlpb.Experiment
	for i, q := range s.questions {
		ref, right, err := s.read(ctx, reader(i), q)
		if err != nil {
			return "", err
		}
		t := seen[ref]
		t.n++
		if right {
			t.right++
		}
		seen[ref], answered = t, append(answered, ref)
		if len(answered)%lookEvery != 0 && len(answered) < len(s.questions) {
			continue
		}
		if e, err = s.client.experiments.GetExperiment(ctx, &controlpb.ExperimentRequest{Experiment: readers}); err != nil {
			return "", err
		}
		if e.GetVerdict() != "undecided" && !e.GetSampleRatioMismatch() {
			break
		}
	}
	if err := s.holdFigures(e, seen, len(answered)); err != nil {
		return "", err
	}
	for i := range answered[:min(comingBack, len(answered))] {
		p, err := predictFor(ctx, s.client, galley.Ref{Name: "headlines"}, []string{s.questions[i].text}, reader(i))
		if err != nil {
			return "", err
		}
		if p.Model != answered[i] {
			return "", wrong("%s was answered by %s first, and by %s then", reader(i), answered[i], p.Model)
		}
	}
	if err := s.decide(ctx); err != nil {
		return "", err
	}
	bad, good := seen[s.worse], seen[s.model]
	return fmt.Sprintf("%s in production, forced %q, and %s beside it: %d readers, whom the first answers right %d times of %d, the second %d of %d; the verdict promotes %s",
		s.worse, mistake, s.model, len(answered), bad.right, bad.n, good.right, good.n, s.model), nil
}

// read is what a reader does: asks, and says what the answer should have been,
// twice, as an application that tries again does.
func (s *story) read(ctx context.Context, key string, q question) (ref string, right bool, err error) {
	p, err := predictFor(ctx, s.client, galley.Ref{Name: "headlines"}, []string{q.text}, key)
	if err != nil {
		return "", false, err
	}
	arm := map[string]string{s.worse: "control", s.model: "treatment"}[p.Model]
	if arm == "" {
		return "", false, wrong("%s answered, which is no arm of the experiment", p.Model)
	}
	for _, state := range []string{"recorded", "unchanged"} {
		outcome, err := s.client.newsroom.Feedback(ctx, &newsroompb.FeedbackRequest{PredictionId: p.PredictionID, Outcome: structpb.NewStringValue(q.label)})
		if err != nil {
			return "", false, err
		}
		if outcome.GetState() != state || outcome.GetExperiment() != readers || outcome.GetArm() != arm {
			return "", false, wrong("the outcome of an answer of %s is not %s for the %s of %s: %v", p.Model, state, arm, readers, outcome)
		}
	}
	return p.Model, p.Outputs[0].Label == q.label, nil
}

// holdFigures holds the figures of the experiment against what readers saw.
func (s *story) holdFigures(e *controlpb.Experiment, seen map[string]tally, asked int) error {
	if e.GetVerdict() != "treatment" || e.GetSampleRatioMismatch() {
		return wrong("after %d readers the verdict is %s (mismatch of the shares: %t); %s was right for %d of %d, %s for %d of %d",
			asked, e.GetVerdict(), e.GetSampleRatioMismatch(),
			s.model, seen[s.model].right, seen[s.model].n, s.worse, seen[s.worse].right, seen[s.worse].n)
	}
	for _, arm := range e.GetArms() {
		t := seen[arm.GetRef()]
		if arm.GetN() != int64(t.n) || math.Abs(arm.GetMetric()-t.rate()) > 1e-9 {
			return wrong("%s has %d outcomes with mean %v, and readers sent %d with mean %v", arm.GetRef(), arm.GetN(), arm.GetMetric(), t.n, t.rate())
		}
	}
	return nil
}

// decide ends the experiment by its verdict, and holds that it promoted.
func (s *story) decide(ctx context.Context) error {
	e, err := s.client.experiments.DecideExperiment(ctx, &controlpb.DecideExperimentRequest{Experiment: readers})
	if err != nil {
		return err
	}
	if e.GetState() != "decided" || e.GetWinner() != "treatment" || e.GetForced() || e.GetTraffic() != s.model {
		return wrong("the experiment is %s for %s, and traffic goes to %s", e.GetState(), e.GetWinner(), e.GetTraffic())
	}
	history, err := s.client.control.AliasHistory(ctx, &controlpb.AliasHistoryRequest{Name: "headlines", Alias: "prod"})
	if err != nil {
		return err
	}
	if last := history.GetChanges()[0]; last.GetFrom() != s.worse || last.GetTo() != s.model || last.GetMove() != "promote" {
		return wrong("the history does not tell that the experiment promoted: %v", last)
	}
	_, err = s.askAll(ctx, s.model)
	return err
}
