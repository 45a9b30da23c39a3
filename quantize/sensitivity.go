package quantize

import (
	"cmp"
	"context"
	"math"
	"slices"

	"galley/onnx"
	"galley/onnx/session"
)

// A Cost is what quantising one site alone does to the outputs.
type Cost struct {
	Site Site
	// Error is the squared error of the outputs over their squares: 0 changes
	// nothing, infinite is no answer.
	Error float64
}

// Costs measures each site alone on batches, the others in float, and returns
// the dearest first. measured is told after each one.
func Costs(ctx context.Context, opener session.Opener, m *onnx.Model, o Options, batches Batches, threads int, measured func()) ([]Cost, error) {
	sites, _, err := Find(m, o)
	if err != nil {
		return nil, err
	}
	sites = slices.DeleteFunc(sites, func(s Site) bool { return o.Leave[s.Name] })
	float, err := outputs(ctx, opener, m, batches, threads)
	if err != nil {
		return nil, err
	}
	costs := make([]Cost, 0, len(sites))
	for _, s := range sites {
		alone := o
		alone.Leave = make(map[string]bool, len(sites)-1)
		for _, other := range sites {
			alone.Leave[other.Name] = other.Name != s.Name
		}
		for name := range o.Leave {
			alone.Leave[name] = true
		}
		q, _, err := Apply(m, alone)
		if err != nil {
			return nil, err
		}
		got, err := outputs(ctx, opener, q, batches, threads)
		if err != nil {
			return nil, err
		}
		costs = append(costs, Cost{s, relativeError(got, float)})
		measured()
	}
	slices.SortStableFunc(costs, func(a, b Cost) int { return cmp.Compare(b.Error, a.Error) })
	return costs, nil
}

// outputs are the float outputs of a graph, batch by batch.
func outputs(ctx context.Context, opener session.Opener, m *onnx.Model, batches Batches, threads int) ([]float32, error) {
	s, err := open(ctx, opener, m, threads, "sensitivity")
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var all []float32
	for batch, err := range batches {
		if err != nil {
			return nil, err
		}
		out, err := s.Run(ctx, batch)
		if err != nil {
			return nil, err
		}
		for _, v := range s.Outputs() {
			all = append(all, session.Data[float32](out[v.Name])...)
			out[v.Name].Close()
		}
	}
	return all, nil
}

func relativeError(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var wrong, all float64
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		wrong += d * d
		all += float64(w) * float64(w)
	}
	if e := wrong / max(all, math.SmallestNonzeroFloat64); e == e {
		return e
	}
	return math.Inf(1)
}
