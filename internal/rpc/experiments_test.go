package rpc

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	controlpb "galley/api/control/v1"
	newsroompb "galley/api/newsroom/v1"

	"galley"
)

func TestAnExperimentFromStartToPromotion(t *testing.T) {
	d := newDesk(t)
	if e := d.start(t); e.GetState() != "running" || e.GetVerdict() != "undecided" || e.GetTraffic() != "experiment test" || e.GetArms()[1].GetRef() != "news@2" || e.GetArms()[1].GetShare() != 0.5 {
		t.Errorf("%v", e)
	}
	_, err := d.experiments.DecideExperiment(t.Context(), &controlpb.DecideExperimentRequest{Experiment: "test"})
	if e := FromStatus(err); e == nil || e.Code != galley.FailedPrecondition || !strings.Contains(e.Message, "is undecided: accuracy: control news@1 has no outcomes") {
		t.Errorf("%v", err)
	}
	ids := map[string][]string{}
	versions := map[string]string{}
	for i := range 120 {
		key := fmt.Sprint("reader-", i)
		model, id := d.classify(t, key)
		ids[model], versions[key] = append(ids[model], id), model
		if again, _ := d.classify(t, key); again != model {
			t.Fatalf("%s was answered by %s, then by %s", key, model, again)
		}
		// The inference protocol's requests go to the same arm.
		r := asked("sport")
		r.Id = key
		a, err := d.inference.ModelInfer(t.Context(), r)
		if err != nil || "news@"+a.GetModelVersion() != model {
			t.Fatalf("%s: %v, %v", key, a.GetModelVersion(), err)
		}
	}
	// All labels are right in the treatment, and few in control. Each outcome
	// is sent twice, the wrong one first.
	var readers sync.WaitGroup
	for model, all := range ids {
		for i, id := range all {
			readers.Go(func() {
				right := any("sport")
				if model == "news@1" && i%4 != 0 {
					right = false
				}
				for _, sent := range []struct {
					outcome any
					want    string
				}{{"money", "recorded"}, {right, "corrected"}, {right, "unchanged"}} {
					r, err := d.send(t.Context(), id, sent.outcome)
					if err != nil || r.GetState() != sent.want || r.GetExperiment() != "test" || (r.GetArm() == "control") != (model == "news@1") {
						t.Errorf("%v of %s: %v, %v", sent.outcome, model, r, err)
						return
					}
				}
			})
		}
	}
	readers.Wait()
	e := d.show(t)
	for i, arm := range e.GetArms() {
		n := int64(len(ids[arm.GetRef()]))
		if arm.GetN() != n || arm.GetKeys() != n || arm.GetRequests() != 3*n || arm.GetErrors() != 0 {
			t.Errorf("%d answers have outcomes: %v", n, arm)
		}
		if i == 1 && arm.GetMetric() != 1 {
			t.Errorf("%v", arm)
		}
	}
	if e.GetVerdict() != "treatment" || e.GetSampleRatioMismatch() {
		t.Errorf("%v", e)
	}
	e, err = d.experiments.DecideExperiment(t.Context(), &controlpb.DecideExperimentRequest{Experiment: "test"})
	if err != nil || e.GetState() != "decided" || e.GetWinner() != "treatment" || e.GetForced() || e.GetTraffic() != "news@2" {
		t.Fatalf("%v, %v", e, err)
	}
	for key := range versions {
		if model, _ := d.classify(t, key); model != "news@2" {
			t.Errorf("%s is answered by %s", key, model)
		}
	}
	if entry := d.lastAudit(t, "alias.promote"); entry == nil || !strings.Contains(entry.GetDetail(), "experiment test: accuracy: control news@1 0.") {
		t.Errorf("%v", entry)
	}
	if entry := d.lastAudit(t, "experiment.decide"); entry == nil || entry.GetSubject() != "test" || !strings.Contains(entry.GetDetail(), "winner treatment news@2; accuracy") {
		t.Errorf("%v", entry)
	}
	// What comes late is still counted.
	before := d.show(t).GetArms()[0].GetN()
	_, id := d.classify(t, "")
	if r := d.feedback(t, id, true); r.GetExperiment() != "" || r.GetState() != "recorded" {
		t.Errorf("%v", r)
	}
	if r := d.feedback(t, ids["news@1"][0], false); r.GetState() != "corrected" {
		t.Errorf("%v", r)
	}
	if after := d.show(t).GetArms()[0].GetN(); after != before {
		t.Errorf("%d outcomes, then %d", before, after)
	}
}

func TestExperimentsThatCannotBe(t *testing.T) {
	d := newDesk(t)
	if _, err := d.control.Delete(t.Context(), "ann", galley.Ref{Name: "news", Version: 4}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change  func(*controlpb.StartExperimentRequest)
		code    galley.Code
		message string
	}{
		"shares":      {func(r *controlpb.StartExperimentRequest) { r.Split = "90/20" }, galley.InvalidArgument, "the shares 90/20 add up to 110 instead of 100"},
		"metric":      {func(r *controlpb.StartExperimentRequest) { r.Metric = "happiness" }, galley.InvalidArgument, `"happiness" is not a metric of experiments`},
		"no metric":   {func(r *controlpb.StartExperimentRequest) { r.Metric = "" }, galley.InvalidArgument, `"" is not a metric of experiments`},
		"deleted":     {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@4" }, galley.NotFound, "news@4 was deleted"},
		"never there": {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@9" }, galley.NotFound, "news@9: there is no such version; the newest is news@6"},
		"the same":    {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@1" }, galley.InvalidArgument, "control and treatment are both news@1"},
		"labels":      {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@5" }, galley.FailedPrecondition, "news@5 has other labels than news@1: money, sport instead of sport, money"},
		"signature":   {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@6" }, galley.FailedPrecondition, "news@6 has other inputs than news@1: a FP32 [-1 2], b INT64 [-1] instead of text BYTES [-1]"},
		"guardrail":   {func(r *controlpb.StartExperimentRequest) { r.Guardrails = []string{"speed=1"} }, galley.InvalidArgument, `"speed" is not a measure`},
		"name":        {func(r *controlpb.StartExperimentRequest) { r.Experiment = "Über" }, galley.InvalidArgument, `"Über" is not a name`},
		"ref":         {func(r *controlpb.StartExperimentRequest) { r.Control = "news@one" }, galley.InvalidArgument, ""},
	} {
		r := &controlpb.StartExperimentRequest{Experiment: "test", Control: "news@1", Treatment: "news@2", Split: "50/50", Metric: "click"}
		c.change(r)
		_, err := d.experiments.StartExperiment(t.Context(), r)
		if e := FromStatus(err); e == nil || e.Code != c.code || e.Remedy == "" || c.message != "" && e.Message != c.message {
			t.Errorf("%s: %#v", name, e)
		}
	}
	d.start(t)
	_, err := d.experiments.StartExperiment(t.Context(), &controlpb.StartExperimentRequest{Experiment: "other", Control: "news@2", Treatment: "news@3", Split: "50/50", Metric: "click"})
	if e := FromStatus(err); e == nil || e.Code != galley.FailedPrecondition || e.Message != "the experiment test runs on this model already" {
		t.Errorf("%v", err)
	}
	if _, err := d.control.Delete(t.Context(), "ann", galley.Ref{Name: "news", Version: 2}); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Errorf("%v", err)
	}
	for _, r := range []*controlpb.DecideExperimentRequest{
		{Experiment: "test", Winner: "control"}, {Experiment: "test", Force: true}, {Experiment: "test", Force: true, Winner: "both", Reason: "x"},
	} {
		if _, err := d.experiments.DecideExperiment(t.Context(), r); FromStatus(err) == nil || FromStatus(err).Code != galley.InvalidArgument {
			t.Errorf("%v: %v", r, err)
		}
	}
}

func TestOutcomesThatCannotBe(t *testing.T) {
	d := newDesk(t)
	d.start(t)
	_, id := d.classify(t, "reader")
	for name, c := range map[string]struct {
		id      string
		outcome *structpb.Value
		code    galley.Code
	}{
		"unknown":        {"0123456789abcdef0123456789abcdef", structpb.NewBoolValue(true), galley.NotFound},
		"empty id":       {"", structpb.NewBoolValue(true), galley.NotFound},
		"forged":         {"AQAAAAE" + id[7:20] + "AAAA" + id[24:], structpb.NewBoolValue(true), galley.NotFound},
		"no outcome":     {id, nil, galley.InvalidArgument},
		"a list":         {id, structpb.NewListValue(&structpb.ListValue{}), galley.InvalidArgument},
		"empty":          {id, structpb.NewStringValue(""), galley.InvalidArgument},
		"another label":  {id, structpb.NewStringValue("culture"), galley.InvalidArgument},
		"a large number": {id, structpb.NewNumberValue(5), galley.InvalidArgument},
		"a long text":    {id, structpb.NewStringValue(strings.Repeat("x", 300)), galley.InvalidArgument},
	} {
		_, err := d.newsroom.Feedback(t.Context(), &newsroompb.FeedbackRequest{PredictionId: c.id, Outcome: c.outcome})
		if e := FromStatus(err); e == nil || e.Code != c.code || e.Remedy == "" {
			t.Errorf("%s: %#v", name, e)
		}
	}
	if e := d.show(t); e.GetArms()[0].GetN()+e.GetArms()[1].GetN() != 0 {
		t.Errorf("%v", e)
	}
}

func TestFeedbackOverREST(t *testing.T) {
	d := newDesk(t)
	d.start(t)
	h := NewHTTPHandler(d.server)
	_, id := d.classify(t, "reader")
	for _, outcome := range []string{"true", "0.25", `"sport"`} {
		r := httptest.NewRequest("POST", "/v1/newsroom:feedback", strings.NewReader(fmt.Sprintf(`{"prediction_id":%q,"outcome":%s}`, id, outcome)))
		r.Host = "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var answer map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &answer); w.Code != 200 || err != nil || answer["experiment"] != "test" {
			t.Errorf("%s: %d %s", outcome, w.Code, w.Body)
		}
	}
	if e := d.show(t); e.GetArms()[0].GetN()+e.GetArms()[1].GetN() != 1 {
		t.Errorf("%v", e)
	}
}
