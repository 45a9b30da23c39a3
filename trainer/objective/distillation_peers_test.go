//go:build peers

package objective_test

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"testing"

	"galley/onnx"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// torchDistillation computes the loss as PyTorch's users write it, with
// torch.nn.KLDivLoss and torch.nn.CrossEntropyLoss, and its gradient by the
// logits.
const torchDistillation = `
import json, sys, torch
import torch.nn.functional as F
cases, out = json.loads(sys.argv[1]), []
for c in cases:
    student = torch.tensor(c["student"], requires_grad=True)
    teacher = torch.tensor(c["teacher"])
    T, alpha, labels = c["temperature"], c["alpha"], torch.tensor(c["labels"])
    soft = torch.nn.KLDivLoss(reduction="batchmean")(F.log_softmax(student / T, dim=1), F.softmax(teacher / T, dim=1))
    hard = torch.nn.CrossEntropyLoss(ignore_index=-1, reduction="sum")(student, labels) / len(labels)
    loss = alpha * T * T * soft + (1 - alpha) * hard
    loss.backward()
    out.append({"loss": loss.item(), "gradient": student.grad.flatten().tolist()})
print(json.dumps(out))
`

func TestPeerDistillation(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with PyTorch")
	}
	type question struct {
		Student     [][]float32 `json:"student"`
		Teacher     [][]float32 `json:"teacher"`
		Labels      []int       `json:"labels"`
		Temperature float64     `json:"temperature"`
		Alpha       float64     `json:"alpha"`
	}
	var questions []question
	for _, l := range lessons() {
		q := question{Labels: l.labels, Temperature: l.temperature, Alpha: l.alpha}
		for i := range l.labels {
			q.Student = append(q.Student, l.logits[i*l.classes:(i+1)*l.classes])
			q.Teacher = append(q.Teacher, l.teacher[i*l.classes:(i+1)*l.classes])
		}
		questions = append(questions, q)
	}
	asked, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := exec.Command(python, "-c", torchDistillation, string(asked)).Output()
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
	for i, l := range lessons() {
		m, err := objective.Distillation(logitsModel(architecture.Logits, onnx.Shape{onnx.Symbol("batch"), {Size: int64(l.classes)}}), 0, l.temperature, nil)
		if err != nil {
			t.Fatal(err)
		}
		inputs := l.inputs(t)
		inputs["x"] = tensor(t, l.logits, int64(len(l.labels)), int64(l.classes))
		if got := loss(t, m, inputs); math.Abs(got-answers[i].Loss) > 1e-5*(1+answers[i].Loss) {
			t.Errorf("T %v, alpha %v: %v, PyTorch %v", l.temperature, l.alpha, got, answers[i].Loss)
		}
		for j, got := range l.gradient(t) {
			if math.Abs(float64(got)-answers[i].Gradient[j]) > 2e-6 {
				t.Fatalf("T %v, alpha %v: gradient %d is %v, PyTorch %v", l.temperature, l.alpha, j, got, answers[i].Gradient[j])
			}
		}
	}
}
