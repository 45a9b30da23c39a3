package serving

import (
	"context"
	"math"
	"time"

	"galley/internal/processors"
	"galley/onnx/session"
	"galley/registry"
	"galley/task"
)

// graphLimits are those of a graph without a task, whose rows are whole
// requests. They run one by one: nothing is known of the graph that says its
// answers to two of them joined are its answers to each.
func graphLimits() limits {
	return limits{executors: processors.Cores(), requests: 1024, bytes: 256 << 20, rows: 1, size: math.MaxInt}
}

type tensors = map[string]*session.Tensor

// NewGraph serves a graph without a task: its own inputs and outputs. The
// servable closes the session.
func NewGraph(v registry.Version, s session.Session) *Servable { return newGraph(v, s, graphLimits()) }

func newGraph(v registry.Version, s session.Session, l limits) *Servable {
	b := newBatcher(v.Ref(), l, func(ctx context.Context, requests []tensors, _ int) ([]tensors, timing, error) {
		began := time.Now()
		outputs, err := s.Run(ctx, requests[0])
		return []tensors{outputs}, timing{infer: time.Since(began)}, err
	})
	return &Servable{
		Version: v, Signature: task.GraphSignature(s.Inputs(), s.Outputs()), Platform: platform,
		closeModel: s.Close,
		load:       b.load,
		infer: func(ctx context.Context, r *recorder, inputs tensors) (answer, error) {
			elements, bytes := sizeOf(inputs)
			outputs, times, err := b.do(ctx, r, []tensors{inputs}, []int{elements}, bytes)
			if err != nil {
				if len(outputs) > 0 { // the run ended in time, its request did not
					closeAll(outputs[0])
				}
				return answer{}, err
			}
			return answer{outputs[0], 1, times}, nil
		},
	}
}

// sizeOf counts the elements of tensors and their bytes.
func sizeOf(inputs tensors) (elements int, bytes int64) {
	for _, t := range inputs {
		elements += int(t.Size())
		bytes += int64(len(t.Bytes()))
		for _, s := range t.Strings() {
			bytes += int64(len(s))
		}
	}
	return elements, bytes
}
