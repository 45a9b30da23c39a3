package evals

// A figure is what a rule may speak of.
type figure struct {
	higher bool // is better
	slices bool // the report has it by slice
	paired bool // the difference to production has an interval
	ratio  bool // to production's can be taken
	of     func(*Report) (float64, bool)
	beside func(Baseline) (float64, bool)
}

func metricFigure(name string, higher bool) figure {
	f := figure{higher: higher, slices: true, paired: name == Accuracy, ratio: true}
	f.of = func(r *Report) (float64, bool) { m, ok := r.Metrics[name]; return m.Value, ok }
	f.beside = func(b Baseline) (float64, bool) { m, ok := b.Metrics[name]; return m.Value, ok }
	return f
}

func latencyFigure(of func(Latency) float64) figure {
	return figure{
		ratio: true,
		of:    func(r *Report) (float64, bool) { return of(r.LatencyMS), r.LatencyMS.N > 0 },
		beside: func(b Baseline) (float64, bool) {
			if b.LatencyMS == nil {
				return 0, false
			}
			return of(*b.LatencyMS), b.LatencyMS.N > 0
		},
	}
}

// figures are the metrics of rules.
var figures = map[string]figure{
	Accuracy:      metricFigure(Accuracy, true),
	MacroF1:       metricFigure(MacroF1, true),
	Loss:          metricFigure(Loss, false),
	ECE:           metricFigure(ECE, false),
	LatencyMedian: latencyFigure(func(l Latency) float64 { return l.P50 }),
	LatencyTail:   latencyFigure(func(l Latency) float64 { return l.P99 }),
	Agreement: {
		higher: true,
		of:     func(r *Report) (float64, bool) { m, ok := r.Metrics[Agreement]; return m.Value, ok },
	},
	"rows_per_second": {
		higher: true,
		of:     func(r *Report) (float64, bool) { return r.Resources.RowsPerSecond, r.Resources.RowsPerSecond > 0 },
	},
	"peak_bytes": {
		of: func(r *Report) (float64, bool) { return float64(r.Resources.PeakBytes), r.Resources.PeakBytes > 0 },
	},
	"size_bytes": {
		ratio:  true,
		of:     func(r *Report) (float64, bool) { return float64(r.Resources.SizeBytes), r.Resources.SizeBytes > 0 },
		beside: func(b Baseline) (float64, bool) { return float64(b.SizeBytes), b.SizeBytes > 0 },
	},
}
