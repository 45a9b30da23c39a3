//go:build peers

package objective_test

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"testing"

	"galley/onnx"
	"galley/onnx/session"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// torchScript computes the mean loss of torch.nn.CrossEntropyLoss for each
// case in argv[1], and its gradient by the logits.
const torchScript = `
import json, sys, torch
cases, out = json.loads(sys.argv[1]), []
for c in cases:
    logits = torch.tensor(c["logits"], requires_grad=True)
    weight = torch.tensor(c["weights"], dtype=torch.float32)
    loss = torch.nn.CrossEntropyLoss(weight=weight, label_smoothing=c["smoothing"])(logits, torch.tensor(c["labels"]))
    loss.backward()
    out.append({"loss": loss.item(), "gradient": logits.grad.flatten().tolist()})
print(json.dumps(out))
`

func TestPeerCrossEntropy(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with PyTorch")
	}
	const rows, classes = 9, 5
	type question struct {
		Logits    [][]float32 `json:"logits"`
		Labels    []int       `json:"labels"`
		Weights   []float64   `json:"weights"`
		Smoothing float64     `json:"smoothing"`
	}
	var questions []question
	for i, weights := range [][]float64{{1, 1, 1, 1, 1}, {0.5, 2, 1, 0.1, 3}, {1, 0, 1, 2, 0}} {
		for _, smoothing := range []float64{0, 0.1, 0.5} {
			q := question{Labels: []int{0, 4, 1, 1, 2, 3, 0, 2, 4}, Weights: weights, Smoothing: smoothing}
			values := normal(uint64(i), rows*classes)
			for r := range rows {
				q.Logits = append(q.Logits, values[r*classes:(r+1)*classes])
			}
			questions = append(questions, q)
		}
	}
	asked, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := exec.Command(python, "-c", torchScript, string(asked)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []struct {
		Loss     float64   `json:"loss"`
		Gradient []float64 `json:"gradient"`
	}
	if err := json.Unmarshal(answer, &answers); err != nil {
		t.Fatal(err)
	}
	m, err := objective.Classification(logitsModel(architecture.Logits, onnx.Shape{onnx.Symbol("batch"), {Size: classes}}), 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, q := range questions {
		c := objective.Classes{Weights: q.Weights, Smoothing: q.Smoothing}
		targets := make([]float32, rows*classes)
		c.Fill(targets, q.Labels, c.Mass(q.Labels))
		var logits []float32
		for _, row := range q.Logits {
			logits = append(logits, row...)
		}
		got := loss(t, m, map[string]*session.Tensor{
			"x": tensor(t, logits, rows, classes), objective.Targets: tensor(t, targets, rows, classes),
		})
		if math.Abs(got-answers[i].Loss) > 1e-6*answers[i].Loss {
			t.Errorf("weights %v, smoothing %v: %v, PyTorch %v", q.Weights, q.Smoothing, got, answers[i].Loss)
		}
		// The loss is -Σ t·log p: its gradient p·Σt - t says whether each
		// target is PyTorch's.
		for r, row := range q.Logits {
			sum := 0.0
			for _, x := range targets[r*classes : (r+1)*classes] {
				sum += float64(x)
			}
			for j, logp := range logSoftmax(row) {
				got, want := math.Exp(logp)*sum-float64(targets[r*classes+j]), answers[i].Gradient[r*classes+j]
				if math.Abs(got-want) > 1e-6 {
					t.Fatalf("weights %v, smoothing %v: gradient [%d,%d] %v, PyTorch %v", q.Weights, q.Smoothing, r, j, got, want)
				}
			}
		}
	}
}
