package quantize

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/evals"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
)

// residualModel is a residual network over image [batch,3,32,32] with 10
// logits: a stem, three stages of two blocks, and a classifier. The first block
// of a later stage halves the resolution and doubles the channels.
//
// A block is two convolutions of 3x3. A squeezed one is two of 1x1 with few
// channels between them: little to compute beside what is moved.
func residualModel(channels int64, squeezed bool) *onnx.Model {
	const classes, stages, blocks = 10, 3, 2
	r := rand.New(rand.NewPCG(12, 12))
	g := &onnx.Graph{Name: "residual"}
	b := onnx.NewBuilder(g)
	conv := func(x string, in, out, size, stride int64) string {
		fan := in * size * size
		name := b.Name("kernel")
		weight := b.Weight(onnx.NewFloat(name, normal(r, int(out*fan), 1/math.Sqrt(float64(fan))), out, in, size, size))
		bias := b.Weight(onnx.NewFloat(name+".bias", normal(r, int(out), .1), out))
		return b.OpAttrs("Conv", map[string]onnx.Attr{"pads": slices.Repeat([]int64{size / 2}, 4), "strides": []int64{stride, stride}}, x, weight, bias)
	}
	x := b.Input("image", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: 3}, {Size: 32}, {Size: 32}})
	x = b.Op("Relu", conv(x, 3, channels, 3, 1))
	in := channels
	for stage := range int64(stages) {
		out := channels << stage
		for block := range blocks {
			stride := int64(1)
			if stage > 0 && block == 0 {
				stride = 2
			}
			middle, size := out, int64(3)
			if squeezed {
				middle, size = least/in, 1
			}
			y := conv(b.Op("Relu", conv(x, in, middle, size, stride)), middle, out, size, 1)
			if in != out {
				x = conv(x, in, out, 1, stride)
			}
			x = b.Op("Relu", b.Op("Add", x, y))
			in = out
		}
	}
	x = b.OpAttrs("Flatten", nil, b.Op("GlobalAveragePool", x))
	b.OpAttrs("Gemm", nil, x, b.Weight(onnx.NewFloat("head", normal(r, int(in*classes), .1), in, classes)))
	g.Nodes[len(g.Nodes)-1].Outputs[0] = "logits"
	b.Output("logits", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: classes}})
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": 20}, Graph: g}
}

// photographs are n requests of one image each.
func photographs(t testing.TB, n int) []map[string]*session.Tensor {
	r := rand.New(rand.NewPCG(13, 13))
	out := make([]map[string]*session.Tensor, n)
	for i := range out {
		out[i] = map[string]*session.Tensor{"image": tensor(t, normal(r, 3*32*32, 1), 1, 3, 32, 32)}
	}
	return out
}

func batchesOf(requests []map[string]*session.Tensor) Batches {
	return func(yield func(map[string]*session.Tensor, error) bool) {
		for _, request := range requests {
			if !yield(request, nil) {
				return
			}
		}
	}
}

// TestResidualNetworks holds that an 8-bit form is chosen by what this machine
// needs for it: that which is slower than float is withheld, and that which is
// faster is not. Which is which depends on the processor; a measurement of its
// own says so here.
func TestResidualNetworks(t *testing.T) {
	if testing.Short() {
		t.Skip("measures times")
	}
	requests := photographs(t, 24)
	for name, m := range map[string]*onnx.Model{
		"wide kernels":     residualModel(16, false),
		"squeezed kernels": residualModel(64, true),
	} {
		for _, method := range []Method{Dynamic, Static} {
			t.Run(name+" "+string(method), func(t *testing.T) {
				sites, _, err := Find(m, Options{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				if len(sites) == 0 {
					_, _, err := Apply(m, Options{Method: method})
					if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "a convolution is slower with ranges found at each run") {
						t.Error(err)
					}
					return
				}
				q, _ := quantized(t, m, Options{Method: method}, batchesOf(requests), MSE)
				if like := cosine(answers(t, q, batchesOf(requests)), answers(t, m, batchesOf(requests))); like < .99 {
					t.Errorf("the answers' cosine is %v", like)
				}
				ratio, err := Compare(t.Context(), orttest.Opener(t), q, m, requests, 1)
				if err != nil {
					t.Fatal(err)
				}
				why, least := Slower(method, "photos@1", ratio), fastest(t, q, requests)/fastest(t, m, requests)
				t.Logf("%d places; %.2fx [%.2f, %.2f] of float, %.2fx at best: %q", len(sites), ratio.Value, ratio.Low, ratio.High, least, why)
				if why == "" && least > 1.15 || why != "" && least < .9 {
					t.Errorf("%.2fx of float's time, and withheld is %q", least, why)
				}
			})
		}
	}
}

// fastest is the mean over requests of the shortest time that a model took for
// each, which only the model can lengthen.
func fastest(t *testing.T, m *onnx.Model, requests []map[string]*session.Tensor) float64 {
	t.Helper()
	took := slices.Repeat([]time.Duration{time.Hour}, len(requests))
	for range 2 { // sessions
		s, err := open(t.Context(), orttest.Opener(t), m, 1, "test")
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			for i, request := range requests {
				began := time.Now()
				out, err := s.Run(t.Context(), request)
				took[i] = min(took[i], time.Since(began))
				if err != nil {
					t.Fatal(err)
				}
				out["logits"].Close()
			}
		}
		s.Close()
	}
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	return sum.Seconds() / float64(len(requests))
}

func TestSlower(t *testing.T) {
	slow, fast := evals.Metric{Value: 1.2, Low: 1.1, High: 1.3}, evals.Metric{Value: 1.2, Low: .9, High: 1.5}
	for _, c := range []struct {
		method Method
		ratio  evals.Metric
		want   string
	}{
		{Dynamic, slow, "it is slower than a@1 on this machine: 1.20x of its median latency at batch 1 [1.10, 1.30]"},
		{Static, slow, "it is slower than a@1 on this machine: 1.20x of its median latency at batch 1 [1.10, 1.30]"},
		{Static, fast, ""},
		{WeightOnly, slow, ""},
		{Float16, slow, ""},
	} {
		if got := Slower(c.method, "a@1", c.ratio); got != c.want {
			t.Errorf("%s: %q", c.method, got)
		}
	}
	if _, err := Compare(context.Background(), orttest.Opener(t), textModel(), textModel(), nil, 1); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
}
