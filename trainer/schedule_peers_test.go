//go:build peers

package trainer

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"testing"
)

// torchSchedules prints the factors that PyTorch's own schedulers, one after
// the other, give for each schedule in argv[1].
const torchSchedules = `
import json, math, sys, torch
from torch.optim import lr_scheduler as s
out = []
for c in json.loads(sys.argv[1]):
    steps, floor = c["steps"], c["floor"]
    warm = math.ceil(c["warmup"] * steps)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    parts, left = [], steps - warm
    if warm > 0:
        parts.append(s.LinearLR(optimizer, 1 / warm, 1.0, max(1, warm - 1)))
    if c["decay"] == "cosine":
        parts.append(s.CosineAnnealingLR(optimizer, left, eta_min=floor))
    elif c["decay"] == "linear":
        parts.append(s.LinearLR(optimizer, 1.0, floor, left))
    else:
        parts.append(s.LambdaLR(optimizer, lambda step: 1.0))
    schedule = s.SequentialLR(optimizer, parts, [warm]) if len(parts) > 1 else parts[0]
    factors = []
    for _ in range(steps):
        factors.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    out.append(factors)
print(json.dumps(out))
`

func TestPeerSchedule(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with PyTorch")
	}
	type question struct {
		Schedule
		Steps int `json:"steps"`
	}
	var questions []question
	for _, decay := range []string{"cosine", "linear", "constant"} {
		for _, warmup := range []float64{0, 0.06, 0.5} {
			for _, floor := range []float64{0, 0.1} {
				questions = append(questions, question{Schedule{decay, warmup, floor}, 137})
			}
		}
	}
	asked, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-W", "ignore", "-c", torchSchedules, string(asked))
	cmd.Stderr = os.Stderr
	answer, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers [][]float64
	if err := json.Unmarshal(answer, &answers); err != nil {
		t.Fatal(err)
	}
	for i, q := range questions {
		for step, want := range answers[i] {
			if got := q.At(step, q.Steps); math.Abs(got-want) > 1e-9 {
				t.Errorf("%+v at %d: %v, PyTorch %v", q, step, got, want)
				break
			}
		}
	}
}
