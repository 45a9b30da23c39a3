//go:build peers && bench

package rpc

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley/internal/ort/orttest"
	"galley/internal/processors"
	"galley/onnx"
	"galley/onnx/session"
	"galley/registry"
	"galley/serving"
)

// A spread is repeated measurements of one figure.
type spread []float64

func (s spread) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

func (s spread) String() string {
	return fmt.Sprintf("median %.3f (%.3f to %.3f, %d repeats)", s.median(), slices.Min(s), slices.Max(s), len(s))
}

// noop is the identity over FP32 [1,16].
func noop(t testing.TB) session.Session {
	t.Helper()
	shape := onnx.Fixed(1, 16)
	g := &onnx.Graph{Name: "noop"}
	b := onnx.NewBuilder(g)
	b.Input("x", onnx.Float, shape)
	g.Nodes = append(g.Nodes, &onnx.Node{Name: "same", Op: "Identity", Inputs: []string{"x"}, Outputs: []string{"y"}})
	b.Output("y", onnx.Float, shape)
	data, err := onnx.Marshal(&onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g})
	if err != nil {
		t.Fatal(err)
	}
	s, err := orttest.Opener(t).Open(t.Context(), data, session.Options{Threads: 1, NoSpinning: true, NoMemoryPattern: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// echo answers with the request's tensors and does nothing else.
type echo struct {
	inferencepb.UnimplementedGRPCInferenceServiceServer
}

func (echo) ModelInfer(_ context.Context, r *inferencepb.ModelInferRequest) (*inferencepb.ModelInferResponse, error) {
	in := r.GetInputs()[0]
	return &inferencepb.ModelInferResponse{
		ModelName: r.GetModelName(), ModelVersion: "1",
		Parameters: map[string]*inferencepb.InferParameter{
			"prediction_id": {ParameterChoice: &inferencepb.InferParameter_StringParam{StringParam: "0123456789abcdef0123456789abcdef"}},
		},
		Outputs:           []*inferencepb.ModelInferResponse_InferOutputTensor{{Name: "y", Datatype: in.GetDatatype(), Shape: in.GetShape()}},
		RawOutputContents: r.GetRawInputContents(),
	}, nil
}

// listen serves over loopback until the test ends and returns a client.
func listen(t testing.TB, serve func(net.Listener) error, stop func()) inferencepb.GRPCInferenceServiceClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go serve(l)
	t.Cleanup(stop)
	return dial(t, l.Addr().String())
}

// calls sends n requests one after the other and returns the median time.
func calls(t testing.TB, n int, call func() error) time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		begun := time.Now()
		if err := call(); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(begun)
	}
	slices.Sort(took)
	return took[n/2]
}

// rate has callers call until a time is over, and returns the calls a second
// and the processor time of each, of both sides.
func rate(t testing.TB, callers int, lasting time.Duration, call func() error) (perSecond float64, processor time.Duration) {
	t.Helper()
	var n atomic.Int64
	var group sync.WaitGroup
	before, begun := processorTime(t), time.Now()
	for range callers {
		group.Go(func() {
			for time.Since(begun) < lasting {
				if err := call(); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	group.Wait()
	return float64(n.Load()) / time.Since(begun).Seconds(), (processorTime(t) - before) / time.Duration(max(n.Load(), 1))
}

func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestBenchNoOp holds what galley adds to a request: a model that does
// nothing, against a bare gRPC echo of the same messages and a bare call of
// the runtime. The arms take turns.
func TestBenchNoOp(t *testing.T) {
	const repeats, one, lasting = 9, 1500, 400 * time.Millisecond
	processors.Serve() // as galley up does
	s := noop(t)
	table := serving.NewTable(models{names: []string{"noop"}}, func(_ context.Context, v registry.Version) (*serving.Servable, error) {
		return serving.NewGraph(v, s), nil
	})
	t.Cleanup(table.Close)
	metrics := NewMetrics()
	metrics.WatchModels(table)
	server := NewServer(&Inference{Table: table, Store: models{names: []string{"noop"}}, Name: "galley", Metrics: metrics},
		controlpb.UnimplementedControlServer{}, quiet())
	ours := listen(t, server.Serve, func() { server.Shutdown(context.Background()) })
	bare := grpc.NewServer()
	inferencepb.RegisterGRPCInferenceServiceServer(bare, echo{})
	theirs := listen(t, bare.Serve, bare.Stop)

	request := &inferencepb.ModelInferRequest{
		ModelName: "noop", Inputs: []*input{{Name: "x", Datatype: "FP32", Shape: []int64{1, 16}}},
		RawInputContents: [][]byte{make([]byte, 64)},
	}
	ask := func(c inferencepb.GRPCInferenceServiceClient) func() error {
		return func() error { _, err := c.ModelInfer(context.Background(), request); return err }
	}
	x, err := session.Zeros[float32](1, 16)
	if err != nil {
		t.Fatal(err)
	}
	run := func() error {
		out, err := s.Run(context.Background(), map[string]*session.Tensor{"x": x})
		for _, y := range out {
			y.Close()
		}
		return err
	}
	for _, call := range []func() error{ask(ours), ask(theirs), run} {
		calls(t, 500, call)
	}
	micro := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	var echoed, ran, served, added, allowed, throughput, processor spread
	for range repeats {
		e, o := calls(t, one, ask(theirs)), calls(t, one, ask(ours))
		r := calls(t, one, run)
		echoed, served, ran = append(echoed, micro(e)), append(served, micro(o)), append(ran, micro(r))
		added, allowed = append(added, micro(o-e-r)), append(allowed, max(15, micro(e)/10))
		theirRate, theirTime := rate(t, 16, lasting, ask(theirs))
		ourRate, ourTime := rate(t, 16, lasting, ask(ours))
		throughput, processor = append(throughput, ourRate/theirRate), append(processor, float64(ourTime)/float64(theirTime))
	}
	t.Logf("1 caller, p50 in µs: echo %s; runtime %s; galley %s", echoed, ran, served)
	t.Logf("added in µs: %s; allowed: %s", added, allowed)
	t.Logf("16 callers, requests a second as a share of the echo's: %s; processor time, both sides, as a multiple: %s", throughput, processor)
	if added.median() > allowed.median() {
		t.Errorf("galley adds %.1f µs to an echo and a run, more than %.1f", added.median(), allowed.median())
	}
	if throughput.median() < 0.65 {
		t.Errorf("galley makes %.2f of the echo's requests a second", throughput.median())
	}
}
