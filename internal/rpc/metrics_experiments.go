package rpc

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"galley/experiment"
	"galley/internal/control"
)

// WatchExperiments adds the counters of experiments, which are read from c at
// each scrape: of the last experiment of each model, and no more than
// scrapedExperiments of them.
func (m *Metrics) WatchExperiments(c *control.Control) {
	m.registry.MustRegister(experimentCollector{c})
}

// scrapedExperiments bounds the label experiment.
const scrapedExperiments = 100

type experimentCollector struct{ control *control.Control }

var (
	ofArm = []string{"experiment", "model", "arm", "version"}

	experimentStateDesc = prometheus.NewDesc("galley_experiment_state",
		"1 for the state that a model's last experiment is in: running, stopped, rolled-back, decided.", []string{"experiment", "model", "state"}, nil)
	experimentShareDesc = prometheus.NewDesc("galley_experiment_share",
		"Share of the requests that an arm answers, from 0 to 1; the last one, after the end.", ofArm, nil)
	experimentRequestsDesc = prometheus.NewDesc("galley_experiment_requests",
		"Requests that an arm answered or failed; of a shadow's treatment, those that it was asked, too.", ofArm, nil)
	experimentErrorsDesc = prometheus.NewDesc("galley_experiment_request_errors",
		"Requests that an arm failed.", ofArm, nil)
	experimentEmptyDesc = prometheus.NewDesc("galley_experiment_request_empty",
		"Requests to which an arm gave an empty answer.", ofArm, nil)
	experimentOutcomesDesc = prometheus.NewDesc("galley_experiment_outcomes",
		"Predictions of an arm whose outcome was sent.", ofArm, nil)

	shadowComparedDesc = prometheus.NewDesc("galley_shadow_compared",
		"Answers of a shadow that were compared with the control's.", []string{"experiment", "model"}, nil)
	shadowDisagreementsDesc = prometheus.NewDesc("galley_shadow_disagreements",
		"Compared answers of a shadow that were others than the control's.", []string{"experiment", "model"}, nil)
	shadowDroppedDesc = prometheus.NewDesc("galley_shadow_dropped",
		"Requests that a running shadow was not asked since the server began: no-room where too many waited, for its budget or its speed, no-idle where the control was busy.",
		[]string{"experiment", "model", "reason"}, nil)
)

func (experimentCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		experimentStateDesc, experimentShareDesc, experimentRequestsDesc, experimentErrorsDesc, experimentEmptyDesc,
		experimentOutcomesDesc, shadowComparedDesc, shadowDisagreementsDesc, shadowDroppedDesc,
	} {
		ch <- d
	}
}

func (c experimentCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	latest, err := c.control.LatestExperiments(ctx, scrapedExperiments)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(experimentStateDesc, err)
		return
	}
	for _, e := range latest {
		collectExperiment(ch, e)
	}
}

func collectExperiment(ch chan<- prometheus.Metric, e control.ExperimentFigures) {
	count := func(d *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, n, append([]string{e.Name, e.Model}, labels...)...)
	}
	ch <- prometheus.MustNewConstMetric(experimentStateDesc, prometheus.GaugeValue, 1, e.Name, e.Model, string(e.State))
	for _, arm := range experiment.Arms {
		var sum experiment.Totals
		for _, stage := range e.Totals {
			sum.Requests += stage[arm].Requests
			sum.Errors += stage[arm].Errors
			sum.Empty += stage[arm].Empty
			sum.Outcomes.N += stage[arm].Outcomes.N
			sum.Outcomes.Sum += stage[arm].Outcomes.Sum
		}
		labels := []string{arm.String(), strconv.Itoa(e.Versions[arm])}
		ch <- prometheus.MustNewConstMetric(experimentShareDesc, prometheus.GaugeValue, e.Stage().Share(arm), append([]string{e.Name, e.Model}, labels...)...)
		count(experimentRequestsDesc, float64(sum.Requests), labels...)
		count(experimentErrorsDesc, float64(sum.Errors), labels...)
		count(experimentEmptyDesc, float64(sum.Empty), labels...)
		switch {
		case e.Shadow == nil:
			count(experimentOutcomesDesc, float64(sum.Outcomes.N), labels...)
		case arm == experiment.Treatment: // what was compared stands for outcomes
			count(shadowComparedDesc, float64(sum.Outcomes.N))
			count(shadowDisagreementsDesc, float64(sum.Outcomes.N)-sum.Outcomes.Sum)
		}
	}
	if e.Shadow == nil || e.State != experiment.Running {
		return
	}
	for _, d := range experiment.Drops {
		count(shadowDroppedDesc, float64(e.Dropped[d]), d.String())
	}
}
