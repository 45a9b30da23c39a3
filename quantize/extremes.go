package quantize

import (
	"context"
	"slices"

	"galley/onnx"
	"galley/onnx/session"
)

// reductions of a whole value give its range, and by their sum whether they
// can be believed: the runtime's minimum and maximum pass over NaN, and no sum
// does.
var reductions = []string{"ReduceMin", "ReduceMax", "ReduceSum"}

// extremes finds ranges as observe does, in the graph itself: a run gives three
// numbers of a value and not the value, which takes less time and far less
// memory. ok is false where that does not decide: a value that is not known to
// be of floats, or a number that is not finite, be it but the sum.
func extremes(ctx context.Context, opener session.Opener, m *onnx.Model, values []string, batches Batches, threads int) (ranges map[string]Range, ok bool, err error) {
	types, err := onnx.InferShapes(m)
	if err != nil {
		return nil, false, err
	}
	reduced := m.Clone()
	b := onnx.NewBuilder(reduced.Graph)
	var computed []string // a value's reductions, the last value's first
	// The runtime begins with the last of the nodes that nothing reads, and with
	// what it needs: in this order a value is reduced while it is at hand, and its
	// memory is free for the next.
	for _, name := range slices.Backward(values) {
		if types.Type(name) != onnx.Float {
			return nil, false, nil
		}
		for _, op := range reductions {
			computed = append(computed, b.OpAttrs(op, map[string]onnx.Attr{"keepdims": int64(0)}, name))
		}
	}
	s, err := openFor(ctx, opener, reduced, computed, threads)
	if err != nil {
		return nil, false, err
	}
	defer s.Close()
	found, ok := make([]Range, len(values)), true
	if err := eachRun(ctx, s, batches, computed, func(_, out map[string]*session.Tensor) error {
		for i := range found {
			var x [3]float32
			for k := range x {
				x[k] = session.Data[float32](out[computed[3*i+k]])[0]
				ok = ok && x[k]-x[k] == 0
			}
			// A comparison keeps a negative zero out, unlike min.
			if x[0] < found[i].Low {
				found[i].Low = x[0]
			}
			if x[1] > found[i].High {
				found[i].High = x[1]
			}
		}
		return nil
	}); err != nil || !ok {
		return nil, false, err
	}
	ranges = make(map[string]Range, len(values))
	for i, name := range values {
		ranges[name] = found[len(values)-1-i]
	}
	return ranges, true, nil
}
