package serving

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"galley"
	"galley/feature/text"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
	"galley/registry"
	"galley/task"
)

// tolerance is how far a text's scores may lie apart that ran alone and with
// others: the runtime adds up in another order.
const tolerance = 1e-6

// open opens a graph with the runtime; the test's end closes it.
func open(t *testing.T, build func(b *onnx.Builder)) session.Session {
	t.Helper()
	g := &onnx.Graph{Name: "test"}
	build(onnx.NewBuilder(g))
	data, err := onnx.Marshal(&onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g})
	if err != nil {
		t.Fatal(err)
	}
	s, err := orttest.Opener(t).Open(t.Context(), data, session.Options{Threads: 1, NoSpinning: true, NoMemoryPattern: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var words = strings.Fields("bank goal rate match market coach trade league stock team loss win share final price cup")

// newClassifier serves the mean of random embeddings with two layers on it.
func newClassifier(t *testing.T, l limits) *Servable {
	t.Helper()
	const width, labels = 48, 3
	tokenizer, err := text.Train(t.Context(), slices.Values(words), text.TrainOptions{VocabSize: 200})
	if err != nil {
		t.Fatal(err)
	}
	c, err := task.NewTextClassifier(&task.Config{
		Format: task.ConfigFormat, Task: task.TextClassification, Labels: []string{"a", "b", "c"}, MaxLength: 128,
		Inputs: task.DefaultInputs, Outputs: task.DefaultOutputs,
	}, tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(dims ...int64) *onnx.Tensor {
		n := int64(1)
		for _, d := range dims {
			n *= d
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(rng.NormFloat64())
		}
		return onnx.NewFloat(fmt.Sprintf("w%d", rng.Int()), values, dims...)
	}
	s := open(t, func(b *onnx.Builder) {
		shape := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")}
		ids := b.Input(task.DefaultInputs.IDs, onnx.Int64, shape)
		mask := b.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(onnx.Float)}, b.Input(task.DefaultInputs.Mask, onnx.Int64, shape))
		mask = b.Op("Unsqueeze", mask, b.Ints(2))
		x := b.Op("Mul", b.Op("Gather", b.Weight(random(int64(tokenizer.VocabSize()), width)), ids), mask)
		x = b.Op("Tanh", b.Op("MatMul", x, b.Weight(random(width, width))))
		x = b.Op("Div", b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(0)}, b.Op("Mul", x, mask), b.Ints(1)),
			b.OpAttrs("ReduceSum", map[string]onnx.Attr{"keepdims": int64(0)}, mask, b.Ints(1)))
		b.Graph.Nodes = append(b.Graph.Nodes, &onnx.Node{Name: "logits", Op: "MatMul", Inputs: []string{x, b.Weight(random(width, labels))}, Outputs: []string{"logits"}})
		b.Output("logits", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: labels}})
	})
	served, err := newTextClassifier(registry.Version{Name: "news", Number: 1}, c, s, l)
	if err != nil {
		t.Fatal(err)
	}
	served.recorder = newRecorder("news", 1)
	return served
}

func texts(t testing.TB, s ...string) tensors {
	t.Helper()
	in, err := session.NewStrings(s, int64(len(s)))
	if err != nil {
		t.Fatal(err)
	}
	return tensors{"text": in}
}

// Texts that run with others get the answers that they get alone, whoever sent
// them and in whatever order.
func TestBatchesAnswerAsSingleTexts(t *testing.T) {
	alone := classifierLimits()
	alone.rows = 1
	together := classifierLimits()
	together.executors = 1
	solo, joined := newClassifier(t, alone), newClassifier(t, together)
	rng := rand.New(rand.NewPCG(5, 6))
	var all []string
	want := map[string][]float32{}
	for range 150 {
		var s []string
		for range 1 + rng.IntN(60) {
			s = append(s, words[rng.IntN(len(words))])
		}
		line := strings.Join(s, " ")
		out, err := solo.Infer(t.Context(), texts(t, line))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
		want[line] = slices.Clone(session.Data[float32](out["scores"]))
	}
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(c)))
			for range 40 {
				asked := make([]string, 1+rng.IntN(5))
				for i := range asked {
					asked[i] = all[rng.IntN(len(all))]
				}
				out, err := joined.Infer(t.Context(), texts(t, asked...))
				if err != nil {
					t.Error(err)
					return
				}
				scores := session.Data[float32](out["scores"])
				for i, line := range asked {
					for k, w := range want[line] {
						if math.Abs(float64(scores[3*i+k]-w)) > tolerance {
							t.Errorf("%q: %v, alone %v", line, scores[3*i:3*i+3], want[line])
						}
					}
				}
			}
		})
	}
	callers.Wait()
	s := joined.recorder.read()
	if s.Success.Count != 320 || s.Pending != 0 || s.Fail.Count != 0 || s.Executions >= s.Inferences || s.Queue.Count != 320 {
		t.Errorf("%+v", s)
	}
	var rows, runs uint64
	for _, b := range s.Batches {
		rows += uint64(b.Size) * b.ComputeInfer.Count
		runs += b.ComputeInfer.Count
	}
	if rows != s.Inferences || runs != s.Executions {
		t.Errorf("%d texts in %d runs, by the sizes %d in %d", s.Inferences, s.Executions, rows, runs)
	}
	t.Logf("%d texts in %d runs", s.Inferences, s.Executions)
}

func TestNoTextsAreAnswered(t *testing.T) {
	out, err := newClassifier(t, classifierLimits()).Infer(t.Context(), texts(t))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(out["label"].Shape, []int64{0}) || !slices.Equal(out["scores"].Shape, []int64{0, 3}) {
		t.Errorf("%v, %v", out["label"].Shape, out["scores"].Shape)
	}
}

func TestBadTextsAreNamed(t *testing.T) {
	served := newClassifier(t, classifierLimits())
	for subject, in := range map[string]tensors{
		"text[1]": texts(t, "bank", " "),
		"text":    texts(t, slices.Repeat([]string{"bank"}, MaxTexts+1)...),
	} {
		if _, err := served.Infer(t.Context(), in); galley.CodeOf(err) != galley.InvalidArgument || galley.AsError(err).Subject != subject {
			t.Errorf("%s: %v", subject, err)
		}
	}
	if s := served.recorder.read(); s.Failures[Rejected] != 2 || s.Executions != 0 {
		t.Errorf("%+v", s)
	}
}

// A deadline reaches into the runtime: a run that goes on for ever ends with
// it, and the executor is free for the next.
func TestDeadlinesEndRuns(t *testing.T) {
	scalar := onnx.Shape{}
	s := open(t, func(b *onnx.Builder) {
		body := &onnx.Graph{Name: "body",
			Inputs:  []onnx.Value{{Name: "step", Type: onnx.Int64, Shape: scalar}, {Name: "more", Type: onnx.Bool, Shape: scalar}, {Name: "m", Type: onnx.Float, Shape: scalar}},
			Outputs: []onnx.Value{{Name: "more2", Type: onnx.Bool, Shape: scalar}, {Name: "m2", Type: onnx.Float, Shape: scalar}},
			Nodes: []*onnx.Node{
				{Name: "again", Op: "Identity", Inputs: []string{"more"}, Outputs: []string{"more2"}},
				{Name: "cos", Op: "Cos", Inputs: []string{"m"}, Outputs: []string{"m2"}},
			}}
		b.Graph.Nodes = append(b.Graph.Nodes, &onnx.Node{Name: "loop", Op: "Loop",
			Inputs:  []string{b.Input("times", onnx.Int64, scalar), b.Op("Not", b.Input("stop", onnx.Bool, scalar)), b.Input("x", onnx.Float, scalar)},
			Outputs: []string{"r"}, Attrs: map[string]onnx.Attr{"body": body}})
		b.Output("r", onnx.Float, scalar)
	})
	l := graphLimits()
	l.executors = 1
	served := newGraph(registry.Version{Name: "loop", Number: 1}, s, l)
	served.recorder = newRecorder("loop", 1)
	ask := func(times int64, within time.Duration) error {
		n, _ := session.New([]int64{times})
		stop, _ := session.New([]bool{false})
		x, _ := session.New([]float32{1})
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		out, err := served.Infer(ctx, tensors{"times": n, "stop": stop, "x": x})
		closeAll(out)
		return err
	}
	if err := ask(3, time.Minute); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	var callers sync.WaitGroup
	for range 3 { // one runs, the others wait
		callers.Go(func() {
			if err := ask(math.MaxInt64, 200*time.Millisecond); galley.CodeOf(err) != galley.DeadlineExceeded {
				t.Errorf("got %v", err)
			}
		})
	}
	callers.Wait()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := ask(3, time.Minute); err != nil {
		t.Error(err)
	}
	if s := served.recorder.read(); s.Failures[Canceled] != 3 || s.Success.Count != 2 || s.Executions != 2 {
		t.Errorf("%+v", s)
	}
}
