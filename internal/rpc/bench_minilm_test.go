//go:build peers && bench

package rpc

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	tokenizer "galley/feature/text"
	"galley/internal/ort/orttest"
	"galley/internal/processors"
	"galley/onnx"
	"galley/onnx/session"
	"galley/registry"
	"galley/serving"
	"galley/task"
)

// minilmGraph is the shared encoder with a classifier on it, whose weights are
// made up: they cost what learned ones cost. dir is where the encoder is.
func minilmGraph(t testing.TB) (data []byte, dir string) {
	t.Helper()
	dir = filepath.Join("..", "..", "..", "shared", "data", "models", "all-minilm-l6-v2")
	data, err := os.ReadFile(filepath.Join(dir, "model.onnx"))
	if err != nil {
		t.Skipf("the shared models are not here: %v", err)
	}
	m, err := onnx.Unmarshal(data, onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const hidden, labels = 384, 4
	weights := make([]float32, hidden*labels)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range weights {
		weights[i] = float32(rng.NormFloat64()) / 10
	}
	b := onnx.NewBuilder(m.Graph)
	m.Graph.Outputs = nil
	m.Graph.Nodes = append(m.Graph.Nodes, &onnx.Node{Name: "classify", Op: "MatMul",
		Inputs: []string{"sentence_embedding", b.Weight(onnx.NewFloat("classify.weight", weights, hidden, labels))}, Outputs: []string{"logits"}})
	b.Output("logits", onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: labels}})
	if data, err = onnx.Marshal(m); err != nil {
		t.Fatal(err)
	}
	return data, dir
}

// minilm opens it.
func minilm(t testing.TB) (*task.TextClassifier, session.Session) {
	t.Helper()
	data, dir := minilmGraph(t)
	s, err := orttest.Opener(t).Open(t.Context(), data, session.Options{Threads: 1, NoSpinning: true, NoMemoryPattern: true})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, task.TokenizerFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	words, err := tokenizer.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	c, err := task.NewTextClassifier(&task.Config{
		Format: task.ConfigFormat, Task: task.TextClassification, Labels: []string{"a", "b", "c", "d"}, MaxLength: 512,
		Inputs:  task.Inputs{IDs: "input_ids", Mask: "attention_mask", Types: "token_type_ids"},
		Outputs: task.Outputs{Logits: "logits"},
	}, words)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// lengths are tokens of texts: lognormal with a median of 20 and a 95th
// percentile of 80.
func lengths(n int) []int {
	rng := rand.New(rand.NewPCG(3, 4))
	out := make([]int, n)
	for i := range out {
		out[i] = min(max(int(math.Round(20*math.Exp(rng.NormFloat64()*math.Log(4)/1.6449))), 3), 512)
	}
	return out
}

// newsOf are texts of so many tokens.
func newsOf(lengths []int) []string {
	out := make([]string, len(lengths))
	for i, n := range lengths {
		out[i] = strings.TrimSpace(strings.Repeat("news ", n-2)) // and two special tokens
	}
	return out
}

// TestBenchMiniLM holds the processor time of single requests at 16 callers,
// client included, to that of a bare loop over the same texts, one at a time.
// The arms take turns.
func TestBenchMiniLM(t *testing.T) {
	const repeats, requests, callers = 7, 96, 16
	processors.Serve() // as galley up does
	c, s := minilm(t)
	store := models{names: []string{"minilm"}}
	table := serving.NewTable(store, func(_ context.Context, v registry.Version) (*serving.Servable, error) {
		return serving.NewTextClassifier(v, c, s)
	})
	t.Cleanup(table.Close)
	server := NewServer(&Inference{Table: table, Store: store, Name: "galley"}, controlpb.UnimplementedControlServer{}, quiet())
	client := listen(t, server.Serve, func() { server.Shutdown(context.Background()) })

	var asks []*inferencepb.ModelInferRequest
	texts := newsOf(lengths(requests))
	for _, text := range texts {
		r := asked(text)
		r.ModelName = "minilm"
		asks = append(asks, r)
	}
	loop := func() time.Duration {
		before := processorTime(t)
		for _, text := range texts {
			b, err := c.Encode([]string{text})
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.Run(t.Context(), b.Inputs(), "logits")
			if err != nil {
				t.Fatal(err)
			}
			out["logits"].Close()
			b.Release()
		}
		return (processorTime(t) - before) / requests
	}
	serve := func() (processor, wall time.Duration) {
		var next atomic.Int64
		before, begun := processorTime(t), time.Now()
		done := make(chan error, callers)
		for range callers {
			go func() {
				for {
					i := int(next.Add(1)) - 1
					if i >= requests {
						done <- nil
						return
					}
					if _, err := client.ModelInfer(context.Background(), asks[i]); err != nil {
						done <- err
						return
					}
				}
			}()
		}
		for range callers {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		return (processorTime(t) - before) / requests, time.Since(begun) / requests
	}
	loop()
	serve()
	var bare, ours, share, rate spread
	for range repeats {
		b := loop()
		o, wall := serve()
		bare, ours = append(bare, b.Seconds()*1e3), append(ours, o.Seconds()*1e3)
		share, rate = append(share, o.Seconds()/b.Seconds()), append(rate, 1/wall.Seconds())
	}
	stats := table.Statistics("minilm", 0)[0]
	t.Logf("processor time in ms: bare loop %s; galley %s; as a multiple %s", bare, ours, share)
	t.Logf("requests a second %s; texts a run %.2f", rate, float64(stats.Inferences)/float64(stats.Executions))
	for _, b := range stats.Batches {
		t.Logf("%3d texts: %4d runs of %.2f ms a text", b.Size, b.ComputeInfer.Count, b.ComputeInfer.Total.Seconds()*1e3/float64(b.ComputeInfer.Count)/float64(b.Size))
	}
	if share.median() > 1.05 {
		t.Errorf("galley needs %.3f of the loop's processor time", share.median())
	}
}
