package quantize

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"galley"
	"galley/evals"
	"galley/onnx"
	"galley/onnx/session"
)

// Where a session's memory lies makes it some percent faster or slower for as
// long as it lives, which no number of runs shows. So sessions are opened anew,
// this many pairs of them, and the pair in the middle counts.
const comparedPairs = 3

// comparedRows is how many rows of a job are single requests of a comparison.
const comparedRows = 64

// Compare measures how long single requests take a quantised graph, over how
// long they take the graph that it is made of: the ratio of the medians. The
// two answer in turns. Any graph will do; the tensors of the requests are only
// read.
func Compare(ctx context.Context, opener session.Opener, quantised, float *onnx.Model, requests []map[string]*session.Tensor, threads int) (evals.Metric, error) {
	if len(requests) == 0 {
		return evals.Metric{}, galley.Errorf(galley.FailedPrecondition, "comparison", "there are no requests to compare on")
	}
	var pairs []evals.Metric
	for range comparedPairs {
		ratio, err := comparePair(ctx, opener, quantised, float, requests, threads)
		if err != nil {
			return evals.Metric{}, err
		}
		pairs = append(pairs, ratio)
	}
	slices.SortFunc(pairs, func(a, b evals.Metric) int { return cmp.Compare(a.Value, b.Value) })
	return pairs[len(pairs)/2], nil
}

func comparePair(ctx context.Context, opener session.Opener, quantised, float *onnx.Model, requests []map[string]*session.Tensor, threads int) (evals.Metric, error) {
	var asks [2]evals.Request
	for k, m := range []*onnx.Model{quantised, float} {
		s, err := open(ctx, opener, m, threads, "comparison")
		if err != nil {
			return evals.Metric{}, err
		}
		defer s.Close()
		asks[k] = func(ctx context.Context, i int) error {
			out, err := s.Run(ctx, requests[i])
			for _, t := range out {
				t.Close()
			}
			return err
		}
	}
	ratios, err := evals.LatencyRatios(ctx, len(requests), asks[0], asks[1])
	return ratios[evals.LatencyMedian], err
}

// Slower says why a form must not be chosen whose latency has this ratio to that
// of the version from; "" if nothing is against it. Only the methods that aim
// at speed are held to it: the others aim at size. It takes the whole interval
// to lie above 1.
func Slower(method Method, from string, ratio evals.Metric) string {
	if method != Dynamic && method != Static || ratio.Low <= 1 {
		return ""
	}
	return fmt.Sprintf("it is slower than %s on this machine: %.2fx of its median latency at batch 1 [%.2f, %.2f]", from, ratio.Value, ratio.Low, ratio.High)
}

// withheld says why a form is not to be chosen. What its report says is one pair
// of sessions; what counts against the form is measured again.
func (a *attempt) withheld(ctx context.Context, f *form) (string, error) {
	if Slower(f.options.Method, a.spec.From, f.ratio()) == "" {
		return "", nil
	}
	a.steps.note("it looks slower than " + a.spec.From + ": measuring again")
	requests, err := a.requests()
	if err != nil {
		return "", err
	}
	ratio, err := Compare(ctx, a.opener, f.model, a.model, requests, a.threads)
	if err != nil {
		return "", err
	}
	why := Slower(f.options.Method, a.spec.From, ratio)
	if why == "" {
		a.steps.note(fmt.Sprintf("measured again in other sessions it is not: %.2fx [%.2f, %.2f]", ratio.Value, ratio.Low, ratio.High))
	}
	return why, nil
}

// requests are rows of the valid split, each by itself.
func (a *attempt) requests() ([]map[string]*session.Tensor, error) {
	order := make([]int, a.valid.Len())
	for i := range order {
		order[i] = i
	}
	ids, err := tokenize(a.classifier.TextEncoder, a.valid, spread(order, comparedRows))
	if err != nil {
		return nil, err
	}
	out := make([]map[string]*session.Tensor, len(ids))
	for i := range ids {
		batch, err := a.classifier.Collate(ids[i : i+1])
		if err != nil {
			return nil, err
		}
		out[i] = batch.Inputs() // the collector's in the end
	}
	return out, nil
}
