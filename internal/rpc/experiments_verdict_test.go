package rpc

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	controlpb "galley/api/control/v1"
	newsroompb "galley/api/newsroom/v1"

	"galley"
)

// TestOutcomesOfOneArmAreMissing: where readers of one arm do not come back, the
// figures say so by name, and decide nothing but by force.
func TestOutcomesOfOneArmAreMissing(t *testing.T) {
	d := newDesk(t)
	d.start(t)
	seen := map[string]int{}
	for i := range 240 {
		model, id := d.classify(t, fmt.Sprint("reader-", i))
		if seen[model]++; model == "news@2" && seen[model]%3 > 0 {
			continue // the outcome is lost
		}
		d.feedback(t, id, model == "news@2")
	}
	e := d.show(t)
	if !e.GetSampleRatioMismatch() || e.GetSampleRatioP() >= 0.001 || e.GetVerdict() != "treatment" ||
		len(e.GetWarnings()) != 2 || !strings.HasPrefix(e.GetWarnings()[0], "sample-ratio mismatch: outcomes came from ") || !strings.Contains(e.GetWarnings()[0], "which a split of 50/50 gives with p = ") {
		t.Fatalf("%v", e)
	}
	_, err := d.experiments.DecideExperiment(t.Context(), &controlpb.DecideExperimentRequest{Experiment: "test"})
	if f := FromStatus(err); f == nil || f.Code != galley.FailedPrecondition || !strings.HasPrefix(f.Message, "a sample-ratio mismatch makes its figures doubtful: accuracy: ") ||
		!strings.Contains(f.Remedy, "find out why outcomes of one arm are missing") {
		t.Errorf("%#v", f)
	}
	if e := d.show(t); e.GetState() != "running" {
		t.Errorf("%v", e)
	}
}

// TestTheControlWins: its verdict sends all requests to it, whatever version is
// newer, and promotes nothing. It stays as long as that; the loser may go, and
// late outcomes of its predictions still count.
func TestTheControlWins(t *testing.T) {
	home := t.TempDir()
	d := openDesk(t, home)
	defer func() { d.close() }()
	d.start(t)
	var lost string // a prediction of the treatment
	for i := range 60 {
		model, id := d.classify(t, fmt.Sprint("reader-", i))
		d.feedback(t, id, model == "news@1")
		if model == "news@2" {
			lost = id
		}
	}
	e, err := d.experiments.DecideExperiment(t.Context(), &controlpb.DecideExperimentRequest{Experiment: "test"})
	if err != nil || e.GetState() != "decided" || e.GetWinner() != "control" || e.GetTraffic() != "news@1" {
		t.Fatalf("%v, %v", e, err)
	}
	for i := range 20 {
		if model, _ := d.classify(t, fmt.Sprint("reader-", i)); model != "news@1" {
			t.Errorf("%s answers", model)
		}
	}
	if entry := d.lastAudit(t, "alias.promote"); entry != nil {
		t.Errorf("%v", entry)
	}
	if entry := d.lastAudit(t, "experiment.decide"); !strings.HasPrefix(entry.GetDetail(), "winner control news@1; accuracy: ") {
		t.Errorf("%v", entry)
	}
	_, err = d.control.Delete(t.Context(), "ann", galley.Ref{Name: "news", Version: 1})
	if f := galley.AsError(err); err == nil || f.Code != galley.FailedPrecondition || !strings.Contains(f.Message, "traffic goes to it since the end of the experiment test") || !strings.Contains(f.Remedy, "galley ab stop test") {
		t.Errorf("%v", err)
	}
	if _, err := d.control.Delete(t.Context(), "ann", galley.Ref{Name: "news", Version: 2}); err != nil {
		t.Error(err)
	}
	d.close()
	d = openDesk(t, home)
	_, err = d.newsroom.Feedback(t.Context(), &newsroompb.FeedbackRequest{PredictionId: lost, Outcome: structpb.NewStringValue("money")})
	if f := FromStatus(err); f == nil || f.Code != galley.FailedPrecondition || !strings.Contains(f.Message, "the version that gave it has no labels, or was deleted") {
		t.Errorf("%v", err)
	}
	if r := d.feedback(t, lost, true); r.GetState() != "corrected" || r.GetArm() != "treatment" {
		t.Errorf("%v", r)
	}
	if e, err := d.experiments.StopExperiment(t.Context(), &controlpb.StopExperimentRequest{Experiment: "test"}); err != nil || e.GetTraffic() == "news@1" || e.GetArms()[1].GetMetric() == 0 {
		t.Errorf("%v, %v", e, err)
	}
	if _, err := d.control.Delete(t.Context(), "ann", galley.Ref{Name: "news", Version: 1}); err != nil {
		t.Error(err)
	}
}
