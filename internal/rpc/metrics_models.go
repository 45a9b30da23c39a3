package rpc

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"galley/serving"
)

// WatchModels adds the counters of inference, which are read from t at each
// scrape: a request pays nothing for them. They have Triton's names and
// meanings, so that dashboards made for it work.
func (m *Metrics) WatchModels(t *serving.Table) { m.registry.MustRegister(modelCollector{t}) }

type modelCollector struct{ table *serving.Table }

var ofVersion = []string{"model", "version"}

// A modelMetric is one number of a version's statistics.
type modelMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*serving.Statistics) float64
}

func counterOf(name, help string, read func(*serving.Statistics) float64) modelMetric {
	return modelMetric{prometheus.NewDesc(name, help, ofVersion, nil), prometheus.CounterValue, read}
}

func durationOf(name, what string, read func(*serving.Statistics) serving.Span) modelMetric {
	return counterOf(name, what+", of the requests that were answered, summed, in microseconds.", func(s *serving.Statistics) float64 {
		return float64(read(s).Total.Nanoseconds()) / 1e3
	})
}

var modelMetrics = []modelMetric{
	counterOf("nv_inference_request_success", "Inference requests that were answered.",
		func(s *serving.Statistics) float64 { return float64(s.Success.Count) }),
	counterOf("nv_inference_count", "Inferences: elements of batches that were answered.",
		func(s *serving.Statistics) float64 { return float64(s.Inferences) }),
	counterOf("nv_inference_exec_count", "Runs of the graph; inferences a run are the mean batch size.",
		func(s *serving.Statistics) float64 { return float64(s.Executions) }),
	{
		prometheus.NewDesc("nv_inference_pending_request_count", "Inference requests that wait for a run.", ofVersion, nil),
		prometheus.GaugeValue, func(s *serving.Statistics) float64 { return float64(s.Pending) },
	},
	durationOf("nv_inference_request_duration_us", "Time from request to answer",
		func(s *serving.Statistics) serving.Span { return s.Success }),
	durationOf("nv_inference_queue_duration_us", "Time in the queue",
		func(s *serving.Statistics) serving.Span { return s.Queue }),
	durationOf("nv_inference_compute_input_duration_us", "Time of making the graph's inputs",
		func(s *serving.Statistics) serving.Span { return s.ComputeInput }),
	durationOf("nv_inference_compute_infer_duration_us", "Time of running the graph",
		func(s *serving.Statistics) serving.Span { return s.ComputeInfer }),
	durationOf("nv_inference_compute_output_duration_us", "Time of reading the graph's outputs",
		func(s *serving.Statistics) serving.Span { return s.ComputeOutput }),
}

var (
	failureDesc = prometheus.NewDesc("nv_inference_request_failure",
		"Inference requests to an open version that failed, by reason: REJECTED, CANCELED, BACKEND.", []string{"model", "version", "reason"}, nil)
	latencyDesc = prometheus.NewDesc("galley_inference_duration_seconds",
		"Time from request to answer, of the requests that were answered.", ofVersion, nil)
)

func (modelCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range modelMetrics {
		ch <- m.desc
	}
	ch <- failureDesc
	ch <- latencyDesc
}

func (c modelCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.table.Statistics("", 0) {
		version := strconv.Itoa(s.Version)
		for _, m := range modelMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.read(&s), s.Model, version)
		}
		for reason, n := range s.Failures {
			ch <- prometheus.MustNewConstMetric(failureDesc, prometheus.CounterValue, float64(n), s.Model, version, string(reason))
		}
		buckets, below := map[float64]uint64{}, uint64(0)
		for i, bound := range serving.LatencyBounds {
			below += s.Latency[i]
			buckets[bound.Seconds()] = below
		}
		ch <- prometheus.MustNewConstHistogram(latencyDesc, s.Success.Count, s.Success.Total.Seconds(), buckets, s.Model, version)
	}
}
