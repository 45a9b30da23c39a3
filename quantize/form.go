package quantize

import (
	"context"
	"fmt"
	"os"

	"galley"
	"galley/evals"
	"galley/onnx"
)

// A form is a quantised model with what was measured of it.
type form struct {
	model   *onnx.Model
	options Options
	result  *Result
	bytes   int64 // of the graph
	before  int64 // of the graph that it is made of
	report  *evals.Report
	beside  evals.Baseline // the model that it is made of
	maxDrop float64
}

// sensitivityRows is how many rows each site is measured alone on.
const sensitivityRows = 64

// fit quantises within the budget: all sites if that keeps it, else all but
// the dearest.
func (a *attempt) fit(ctx context.Context, o Options) (*form, error) {
	f, err := a.measured(ctx, o)
	if err != nil {
		return nil, err
	}
	most := a.spec.MaxDrop
	if f.drop() <= most {
		return f, nil
	}
	a.steps.note(fmt.Sprintf("all places quantised, accuracy drops by %.2f points, more than %g: looking for those that cost most", f.drop(), most))
	order := spread(a.order, sensitivityRows)
	a.steps.more((1 + len(f.result.Sites)) * len(order))
	costs, err := Costs(ctx, a.opener, a.model, o, a.counted(order, "measuring each place alone"), a.threads, func() {})
	if err != nil {
		return nil, err
	}
	leave, err := Budgeted(ctx, costs, most, func(ctx context.Context, leave map[string]bool) (float64, error) {
		return a.dropOf(ctx, o, leave, f.beside.Metrics[evals.Accuracy].Value)
	})
	if err != nil {
		return nil, err
	}
	o.Leave = leave
	a.steps.more(2 * a.valid.Len())
	if f, err = a.measured(ctx, o); err != nil {
		return nil, err
	}
	f.explain(costs, leave, most)
	return f, nil
}

// measured quantises and compares with the model that it is made of, on the
// same rows and in turns.
func (a *attempt) measured(ctx context.Context, o Options) (*form, error) {
	f := &form{options: o, maxDrop: a.spec.MaxDrop}
	var err error
	if f.model, f.result, err = Apply(a.model, o); err != nil {
		return nil, err
	}
	data, err := onnx.Marshal(f.model)
	if err != nil {
		return nil, err
	}
	f.bytes = int64(len(data))
	if info, err := os.Stat(a.bundle.ModelPath()); err == nil {
		f.before = info.Size()
	}
	own, err := a.predictor(ctx, f.model)
	if err != nil {
		return nil, err
	}
	defer own.session.Close()
	float, err := a.predictor(ctx, a.model)
	if err != nil {
		return nil, err
	}
	defer float.session.Close()
	counted := 0
	f.report, err = evals.Run(ctx, own, evals.Sequence(a.valid), a.bundle.Config.Labels, evals.Options{
		SizeBytes: f.bytes,
		Baselines: []evals.Contender{{Name: a.spec.From, Predictor: float, Version: &evals.Contestant{Model: floatModel, SizeBytes: f.before}}},
		Progress: func(rows int) {
			a.steps.add(2*(rows-counted), "comparing with "+a.spec.From)
			counted = rows
		},
	})
	if err != nil {
		return nil, err
	}
	var ok bool
	if f.beside, ok = f.report.Beside(floatModel); !ok {
		return nil, galley.Errorf(galley.Internal, "evals", "the report lacks the model that it is compared with")
	}
	return f, nil
}

// floatModel names the model that a form is compared with in its report,
// which nobody else reads.
const floatModel galley.Digest = "float"

// dropOf measures by how many points accuracy drops if some sites are left.
func (a *attempt) dropOf(ctx context.Context, o Options, leave map[string]bool, before float64) (float64, error) {
	o.Leave = leave
	m, _, err := Apply(a.model, o)
	if err != nil {
		return 0, err
	}
	p, err := a.predictor(ctx, m)
	if err != nil {
		return 0, err
	}
	defer p.session.Close()
	what := fmt.Sprintf("measuring with %d places left float", len(leave))
	a.steps.more(a.valid.Len())
	counted := 0
	report, err := evals.Run(ctx, p, evals.Sequence(a.valid), a.bundle.Config.Labels, evals.Options{
		Latency: -1,
		Progress: func(rows int) {
			a.steps.add(rows-counted, what)
			counted = rows
		},
	})
	if err != nil {
		return 0, err
	}
	drop := 100 * (before - report.Metrics[evals.Accuracy].Value)
	a.steps.note(fmt.Sprintf("with the %d dearest places in float accuracy drops by %.2f points", len(leave), drop))
	return drop, nil
}

// explain says of each site that was left what it costs.
func (f *form) explain(costs []Cost, leave map[string]bool, most float64) {
	for i, l := range f.result.Left {
		for _, c := range costs {
			if c.Site.Name == l.Name && leave[l.Name] {
				f.result.Left[i].Cost = c.Error
				f.result.Left[i].Why = fmt.Sprintf("left to keep the drop within %g points: alone it changes the outputs by %.2g of their squares", most, c.Error)
			}
		}
	}
}

// drop is by how many points accuracy is below that of the float model.
func (f *form) drop() float64 { return 0 - 100*f.beside.Difference.Value }

// ratio is the median latency at batch 1 over that of the float model.
func (f *form) ratio() evals.Metric { return f.beside.Ratios[evals.LatencyMedian] }
