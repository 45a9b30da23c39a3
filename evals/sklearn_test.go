//go:build peers

package evals

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
)

const sklearnMetrics = `
import json, sys, warnings
import numpy as np
from scipy.stats import binomtest, bootstrap
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support
warnings.simplefilter("ignore")
out = []
for case in json.load(sys.stdin):
    p = np.array(case["scores"], dtype=np.float32)
    y = np.array(case["gold"])
    k = p.shape[1]
    a = p.argmax(1)
    low, high = binomtest(int((a == y).sum()), len(y)).proportion_ci(method="wilson")
    precision, recall, f1, n = precision_recall_fscore_support(y, a, labels=range(k), zero_division=0)
    # Bins of equal mass by scikit-learn: with as many rows in each, the error
    # is the mean distance.
    c = p.max(1)
    true, said = calibration_curve(a == y, c, n_bins=10, strategy="quantile")
    # Another model, whose answers are those of the row before.
    other = np.roll(a, 1)
    macro = lambda *x: f1_score(*x, labels=range(k), average="macro", zero_division=0) * k / max(1, len(set(x[0]) | set(x[1])))
    drawn = bootstrap((y, a, other), lambda y, a, b: macro(y, a) - macro(y, b), paired=True, vectorized=False,
        method="percentile", n_resamples=2000, rng=np.random.default_rng(1)) if len(y) >= 400 else None
    out.append({"difference": macro(y, a) - macro(y, other),
        "drawn": [float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)] if drawn else [],
        "ece": float(np.abs(true - said).mean()),
        "p": binomtest(int((a == y).sum()), int((a == y).sum()) + int((y == 0).sum())).pvalue,
        "right": int((a == y).sum()), "zeros": int((y == 0).sum()), "accuracy": accuracy_score(y, a), "low": low, "high": high,
        "macro_f1": f1_score(y, a, average="macro", zero_division=0),
        "loss": log_loss(y, p, labels=range(k)),
        "precision": precision.tolist(), "recall": recall.tolist(), "f1": f1.tolist(), "n": n.tolist()})
json.dump(out, sys.stdout)
`

func TestPeerScikitLearn(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with scikit-learn")
	}
	type example struct {
		Gold   []int       `json:"gold"`
		Scores [][]float32 `json:"scores"`
	}
	random := rand.New(rand.NewPCG(7, 7))
	var cases []example
	for _, shape := range [][2]int{{5, 2}, {50, 3}, {400, 6}, {1000, 15}, {30, 40}} {
		var c example
		for range shape[0] {
			gold := random.IntN(shape[1])
			scores := make([]float32, shape[1])
			sum := float32(0)
			for j := range scores {
				scores[j] = random.Float32()
				if j == gold {
					scores[j] += .3
				}
				sum += scores[j]
			}
			for j := range scores {
				scores[j] /= sum
			}
			c.Gold, c.Scores = append(c.Gold, gold), append(c.Scores, scores)
		}
		cases = append(cases, c)
	}
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), python, "-c", sklearnMetrics)
	command.Stdin = bytes.NewReader(input)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []struct {
		Accuracy, Low, High, Loss float64
		ECE, P                    float64
		Right, Zeros              int
		Difference                float64
		Drawn                     []float64
		MacroF1                   float64 `json:"macro_f1"`
		Precision, Recall, F1     []float64
		N                         []int
	}
	if err := json.Unmarshal(output, &want); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		count := NewClassification(make([]string, len(c.Scores[0])))
		for j := range c.Gold {
			if err := count.Add(c.Gold[j], c.Scores[j], "en", 0); err != nil {
				t.Fatal(err)
			}
		}
		m := count.Metrics()
		near(t, "accuracy", m[Accuracy].Value, want[i].Accuracy, 1e-12)
		near(t, "low", m[Accuracy].Low, want[i].Low, 1e-9)
		near(t, "high", m[Accuracy].High, want[i].High, 1e-9)
		near(t, "macro F1", m[MacroF1].Value, want[i].MacroF1, 1e-12)
		near(t, "loss", m[Loss].Value, want[i].Loss, 2e-6)
		near(t, "p", Pairing{N: 1e6, OnlyA: want[i].Right, OnlyB: want[i].Zeros}.McNemar(), want[i].P, 1e-9)
		if len(c.Gold)%10 == 0 && len(c.Scores[0]) <= 15 {
			// Rows of one cell stay in one bin here.
			near(t, "ece", distance(count.all.trust.bins(10), len(c.Gold), nil), want[i].ECE, 5e-4)
		}
		checkBootstrap(t, count, c.Gold, c.Scores, want[i].Difference, want[i].Drawn)
		for k, l := range count.PerLabel() {
			near(t, "precision", l.Precision, want[i].Precision[k], 1e-12)
			near(t, "recall", l.Recall, want[i].Recall[k], 1e-12)
			near(t, "f1", l.F1, want[i].F1[k], 1e-12)
			if l.N != want[i].N[k] {
				t.Errorf("label %d has %d rows, want %d", k, l.N, want[i].N[k])
			}
		}
	}
}

// checkBootstrap holds the difference of macro-F1 between the answers and
// those of the row before to scikit-learn's, and its interval to the one that
// scipy draws.
func checkBootstrap(t *testing.T, count *Classification, gold []int, scores [][]float32, difference float64, drawn []float64) {
	t.Helper()
	joint, answers := newTriples(), make([]int, len(gold))
	for i := range gold {
		best, err := answer(scores[i], count.labels)
		if err != nil {
			t.Fatal(err)
		}
		answers[i] = best
	}
	for i := range gold {
		joint.add(gold[i], answers[i], answers[(i+len(gold)-1)%len(gold)])
	}
	m := joint.differences(len(count.labels))[MacroF1]
	near(t, "difference of macro F1", m.Value, difference, 1e-12)
	if len(drawn) == 2 {
		// Ends that are drawn differ by their own error: about a tenth of a
		// standard error of the difference.
		room := .15 * (drawn[1] - drawn[0]) / 3.92
		near(t, "low of the bootstrap", m.Low, drawn[0], room)
		near(t, "high of the bootstrap", m.High, drawn[1], room)
	}
}
