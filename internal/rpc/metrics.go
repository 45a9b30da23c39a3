package rpc

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"galley"
	"galley/internal/control"
	"galley/trainer"
)

// Metrics is what Prometheus is told. A nil *Metrics counts nothing.
type Metrics struct {
	registry *prometheus.Registry
	unserved *prometheus.CounterVec // by code
}

// NewMetrics makes counters at zero, beside those of the process.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		unserved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "galley_inference_request_unserved",
			Help: "Inference requests for which no version was found or could be opened, by the error's code.",
		}, []string{"code"}),
	}
	m.registry.MustRegister(m.unserved,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers Prometheus at /metrics.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 8, ErrorHandling: promhttp.ContinueOnError,
	}))
	return mux
}

// refused counts a request that reached no version. It has no label of the
// model: clients choose names, and each label lives as long as the process.
func (m *Metrics) refused(err error) {
	if m == nil {
		return
	}
	m.unserved.WithLabelValues(string(galley.CodeOf(err))).Inc()
}

// WatchJobs adds the gauge galley_jobs, which is read from c at each scrape.
func (m *Metrics) WatchJobs(c *control.Control) { m.registry.MustRegister(unfinished{c}) }

// unfinished collects the number of jobs that wait or run. Those that ended
// would have to be counted through all of history.
type unfinished struct{ control *control.Control }

var jobsDesc = prometheus.NewDesc("galley_jobs", "Jobs that wait or run, by phase.", []string{"phase"}, nil)

// scrapeTime bounds one reading of the jobs.
const scrapeTime = 5 * time.Second

func (unfinished) Describe(ch chan<- *prometheus.Desc) { ch <- jobsDesc }

func (u unfinished) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	for _, phase := range []trainer.Phase{trainer.Queued, trainer.Running} {
		n, err := u.control.CountJobs(ctx, phase)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(jobsDesc, err)
			return
		}
		ch <- prometheus.MustNewConstMetric(jobsDesc, prometheus.GaugeValue, float64(n), string(phase))
	}
}
