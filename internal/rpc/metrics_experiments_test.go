package rpc

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	controlpb "galley/api/control/v1"
)

// scraped are the samples of galley's own metrics, by name and labels.
func scraped(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if _, err := promlint.New(bytes.NewReader(w.Body.Bytes())).Lint(); err != nil { // Prometheus' parser
		t.Fatal(err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if !ok || !strings.HasPrefix(name, "galley_") {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		out[name+"}"] = n
	}
	return out
}

func TestExperimentMetrics(t *testing.T) {
	d := newDesk(t)
	m := NewMetrics()
	m.WatchExperiments(d.control)
	if got := scraped(t, m); len(got) != 0 {
		t.Errorf("without experiments: %v", got)
	}
	d.start(t)
	arms := map[string]int{}
	ids := map[string]string{}
	for i := range 40 {
		version, id := d.classify(t, fmt.Sprint(i))
		arms[version]++
		ids[version] = id
	}
	d.feedback(t, ids["news@2"], true)
	d.feedback(t, ids["news@2"], true) // counts once
	d.show(t)                          // what was counted is stored
	want := map[string]float64{
		`galley_experiment_state{experiment="test",model="news",state="running"}`:                      1,
		`galley_experiment_share{arm="control",experiment="test",model="news",version="1"}`:            0.5,
		`galley_experiment_requests{arm="control",experiment="test",model="news",version="1"}`:         float64(arms["news@1"]),
		`galley_experiment_requests{arm="treatment",experiment="test",model="news",version="2"}`:       float64(arms["news@2"]),
		`galley_experiment_request_errors{arm="treatment",experiment="test",model="news",version="2"}`: 0,
		`galley_experiment_request_empty{arm="treatment",experiment="test",model="news",version="2"}`:  0,
		`galley_experiment_outcomes{arm="control",experiment="test",model="news",version="1"}`:         0,
		`galley_experiment_outcomes{arm="treatment",experiment="test",model="news",version="2"}`:       1,
	}
	got := scraped(t, m)
	for name, n := range want {
		if v, ok := got[name]; !ok || v != n {
			t.Errorf("%s is %v (%v), not %v", name, v, ok, n)
		}
	}
	if len(got) != 11 || arms["news@2"] == 0 {
		t.Errorf("%d samples of an experiment: %v", len(got), got)
	}
	// It stays until the model has another one: labels do not grow with time.
	if _, err := d.experiments.StopExperiment(t.Context(), &controlpb.StopExperimentRequest{Experiment: "test"}); err != nil {
		t.Fatal(err)
	}
	if got := scraped(t, m); got[`galley_experiment_state{experiment="test",model="news",state="stopped"}`] != 1 || len(got) != 11 {
		t.Errorf("stopped: %v", got)
	}
	for i := range 3 {
		name := fmt.Sprint("again-", i)
		d.start(t, func(r *controlpb.StartExperimentRequest) { r.Experiment = name })
		if _, err := d.experiments.StopExperiment(t.Context(), &controlpb.StopExperimentRequest{Experiment: name}); err != nil {
			t.Fatal(err)
		}
		if got := scraped(t, m); len(got) != 11 || got[`galley_experiment_state{experiment="`+name+`",model="news",state="stopped"}`] != 1 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestShadowMetrics(t *testing.T) {
	d := newDesk(t)
	m := NewMetrics()
	m.WatchExperiments(d.control)
	d.start(t, func(r *controlpb.StartExperimentRequest) { r.Split, r.Metric, r.Shadow, r.Budget = "", "", 100, 1 })
	const of = `{experiment="test",model="news"}`
	deadline := time.Now().Add(10 * time.Second)
	for got := scraped(t, m); got["galley_shadow_compared"+of] < 3; got = scraped(t, m) {
		if time.Now().After(deadline) {
			t.Fatalf("%v", got)
		}
		d.classify(t, "")
		time.Sleep(2 * time.Millisecond)
		d.show(t)
	}
	got := scraped(t, m)
	asked := got[`galley_experiment_requests{arm="treatment",experiment="test",model="news",version="2"}`]
	if n, ok := got["galley_shadow_disagreements"+of]; !ok || n != 0 || asked < 3 {
		t.Errorf("%v", got)
	}
	for _, reason := range []string{"no-room", "no-idle"} {
		if _, ok := got[`galley_shadow_dropped{experiment="test",model="news",reason="`+reason+`"}`]; !ok {
			t.Errorf("no %s in %v", reason, got)
		}
	}
	for name := range got {
		if strings.HasPrefix(name, "galley_experiment_outcomes") {
			t.Errorf("%s: a shadow has no outcomes", name)
		}
	}
}
