package rpc

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "galley/api/control/v1"
	newsroompb "galley/api/newsroom/v1"

	"galley"
	"galley/internal/control"
	"galley/registry"
)

// TestAGuardrailRollsBack: once the treatment fails, all requests go to
// control within two seconds, and stay there when the server comes back.
func TestAGuardrailRollsBack(t *testing.T) {
	home := t.TempDir()
	d := openDesk(t, home)
	defer func() { d.close() }()
	d.start(t, func(r *controlpb.StartExperimentRequest) { r.MinimumRequests = 20 })
	ask := func() (string, error) {
		a, err := d.newsroom.Classify(t.Context(), &newsroompb.ClassifyRequest{Model: "news", Text: "sport"})
		return a.GetModel(), err
	}
	for range 50 {
		if _, err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	d.fails.Store(true)
	began, failed, last := time.Now(), 0, time.Duration(0)
	for clean := 0; clean < 200; {
		model, err := ask()
		switch {
		case err != nil:
			failed, clean, last = failed+1, 0, time.Since(began)
		case model != "news@1":
			t.Fatalf("%s answered while it fails", model)
		default:
			clean++
		}
		if last > 2*time.Second {
			t.Fatal("requests go to the treatment after two seconds")
		}
		time.Sleep(time.Millisecond)
	}
	if failed == 0 {
		t.Error("nothing failed")
	}
	deadline := time.Now().Add(5 * time.Second)
	for d.show(t).GetState() != "rolled-back" {
		if time.Now().After(deadline) {
			t.Fatalf("%v", d.show(t))
		}
		time.Sleep(10 * time.Millisecond)
	}
	e := d.show(t)
	if e.GetBreach().GetGuardrail() != "error_rate=0.1" || e.GetBreach().GetValue() <= 0.1 || e.GetTraffic() != "news@1" {
		t.Errorf("%v", e)
	}
	if entry := d.lastAudit(t, "experiment.rollback"); entry.GetActor() != "galley" || !strings.Contains(entry.GetDetail(), "guardrail error_rate=0.1: news@2 0.") || !strings.Contains(entry.GetDetail(), "; traffic goes to news@1") {
		t.Errorf("%v", entry)
	}
	// The newest version would answer without the hold.
	d.close()
	d = openDesk(t, home)
	for i := range 20 {
		if model, _ := d.classify(t, fmt.Sprint(i)); model != "news@1" {
			t.Errorf("%s answers after a restart", model)
		}
	}
	if e, err := d.experiments.StopExperiment(t.Context(), &controlpb.StopExperimentRequest{Experiment: "test"}); err != nil || e.GetState() != "rolled-back" || e.GetTraffic() != "news@6" {
		t.Errorf("%v, %v", e, err)
	}
	if _, err := d.experiments.StopExperiment(t.Context(), &controlpb.StopExperimentRequest{Experiment: "test"}); FromStatus(err) == nil || FromStatus(err).Code != galley.FailedPrecondition {
		t.Errorf("%v", err)
	}
	if _, err := d.control.Promote(t.Context(), "ann", control.Promotion{Ref: galley.Ref{Name: "news", Version: 3}, Alias: registry.Prod, Force: true, Reason: "fixed"}); err != nil {
		t.Fatal(err)
	}
	if model, _ := d.classify(t, "reader"); model != "news@3" {
		t.Errorf("%s answers after a promotion", model)
	}
}

// TestARestartKeepsTheArms: keys stay where they were, and outcomes of
// predictions from before count for their arms.
func TestARestartKeepsTheArms(t *testing.T) {
	home := t.TempDir()
	d := openDesk(t, home)
	defer func() { d.close() }()
	d.start(t)
	before, ids := map[string]string{}, map[string]string{}
	for i := range 60 {
		key := fmt.Sprint("reader-", i)
		before[key], ids[key] = d.classify(t, key)
	}
	d.close()
	d = openDesk(t, home)
	n := map[string]int64{}
	for key, model := range before {
		if now, _ := d.classify(t, key); now != model {
			t.Errorf("%s was answered by %s, and is by %s", key, model, now)
		}
		d.feedback(t, ids[key], true)
		n[model]++
	}
	for _, arm := range d.show(t).GetArms() {
		if arm.GetN() != n[arm.GetRef()] || arm.GetRequests() != 2*n[arm.GetRef()] {
			t.Errorf("%v, not %d", arm, n[arm.GetRef()])
		}
	}
	// Fewest keys move when the shares change, all of them to the treatment.
	if _, err := d.experiments.SplitExperiment(t.Context(), &controlpb.SplitExperimentRequest{Experiment: "test", Split: "25/75"}); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for key, model := range before {
		if now, _ := d.classify(t, key); now != model {
			moved++
			if now != "news@2" {
				t.Errorf("%s moved to %s", key, now)
			}
		}
	}
	if moved == 0 || moved > 30 {
		t.Errorf("%d of %d keys moved", moved, len(before))
	}
	if e, err := d.experiments.StopExperiment(t.Context(), &controlpb.StopExperimentRequest{Experiment: "test", Reason: "enough"}); err != nil || e.GetState() != "stopped" || e.GetTraffic() != "news@6" {
		t.Errorf("%v, %v", e, err)
	}
}

// TestACanary: the treatment gets more by itself while it is asked, and none
// while it is not.
func TestACanary(t *testing.T) {
	d := newDesk(t)
	e := d.start(t, func(r *controlpb.StartExperimentRequest) {
		r.Split, r.Canary, r.Every, r.MinimumRequests = "", "10,40,90", durationpb.New(time.Second), 10
	})
	if e.GetArms()[1].GetShare() != 0.1 || len(e.GetCanary()) != 3 || e.GetNext() == nil {
		t.Errorf("%v", e)
	}
	time.Sleep(1300 * time.Millisecond)
	if e := d.show(t); e.GetArms()[1].GetShare() != 0.1 {
		t.Errorf("without a request it has %g", e.GetArms()[1].GetShare())
	}
	for deadline := time.Now().Add(20 * time.Second); d.show(t).GetArms()[1].GetShare() < 0.9; {
		for i := range 100 {
			d.classify(t, fmt.Sprint(i))
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v", d.show(t))
		}
	}
	if entry := d.lastAudit(t, "experiment.ramp"); entry.GetActor() != "galley" || entry.GetDetail() != "split 10/90" {
		t.Errorf("%v", entry)
	}
	if e := d.show(t); e.GetNext() != nil || e.GetState() != "running" {
		t.Errorf("%v", e)
	}
}

// TestAShadow: the control answers all, and what the treatment would have said
// is compared.
func TestAShadow(t *testing.T) {
	d := newDesk(t)
	e := d.start(t, func(r *controlpb.StartExperimentRequest) { r.Split, r.Metric, r.Shadow, r.Budget = "", "", 100, 1 })
	if e.GetMetric() != "agreement" || e.GetShadow() != 1 || e.GetArms()[1].GetShare() != 0 {
		t.Errorf("%v", e)
	}
	model, id := d.classify(t, "first")
	if r := d.feedback(t, id, true); model != "news@1" || r.GetExperiment() != "" {
		t.Fatalf("%s, %v", model, r)
	}
	// A busy machine leaves some requests without a shadow.
	requests := int64(1)
	for deadline := time.Now().Add(time.Minute); d.show(t).GetArms()[1].GetN() < 20 && time.Now().Before(deadline); {
		for range 10 {
			requests++
			if model, _ := d.classify(t, fmt.Sprint(requests)); model != "news@1" {
				t.Fatalf("%s answered", model)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	e = d.show(t)
	if arm := e.GetArms()[1]; arm.GetN() < 20 || arm.GetMetric() != 1 || arm.GetErrors() != 0 || e.GetArms()[0].GetRequests() != requests || e.GetVerdict() != "undecided" {
		t.Errorf("%v", e)
	}
	if _, err := d.experiments.SplitExperiment(t.Context(), &controlpb.SplitExperimentRequest{Experiment: "test", Split: "50/50"}); FromStatus(err) == nil || FromStatus(err).Code != galley.FailedPrecondition {
		t.Errorf("%v", err)
	}
}
