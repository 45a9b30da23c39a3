//go:build peers

package federation

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"testing"
)

// numpyAverage prints the average of models weighted by rows, as McMahan et al.
// write it, with updates clipped to a norm if there is one, in NumPy.
const numpyAverage = `
import json, sys, numpy as np
q = json.load(sys.stdin)
base = np.array(q["base"], dtype=np.float32).astype(np.float64)
models = [np.array(m, dtype=np.float32).astype(np.float64) for m in q["models"]]
if q["clip"] > 0:
    changes = [m - base for m in models]
    models = [base + d * min(1.0, q["clip"] / np.linalg.norm(d)) for d in changes]
print(json.dumps(np.average(models, axis=0, weights=q["rows"]).tolist()))
`

// TestPeerAverage holds a round's aggregate, from what partners trained to the
// next weights, to NumPy's.
func TestPeerAverage(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with NumPy")
	}
	l := Layout{{"w", []int64{50, 20}}}
	base := random(l, 1)
	for _, clip := range []float64{0, 20} {
		b := newBench(t, func(t *Terms) { t.Clip, t.MaxShare = clip, 1 })
		data, from := encode(t, l, base...)
		b.shelf[from] = data
		rows := []int64{300, 5000, 41}
		var models [][]float32
		for i, partner := range []string{"a", "b", "c"} {
			trained := random(l, uint64(10+i))
			models = append(models, trained[0])
			var out bytes.Buffer
			found, err := WriteUpdate(&out, l, base, trained, 0)
			if err != nil {
				t.Fatal(err)
			}
			b.shelf[found.Digest] = out.Bytes()
			s := b.update(partner, 1, rows[i], began)
			s.Header.Update, s.Finding = found.Digest, found
			s.Header = Sign(s.Header.Header, keyOf(partner))
			b.step(s)
		}
		var out bytes.Buffer
		if _, err := Aggregate(&out, l, bytes.NewReader(data), b.round.Parts(), b.shelf.open); err != nil {
			t.Fatal(err)
		}
		question, err := json.Marshal(map[string]any{"base": base[0], "models": models, "rows": rows, "clip": clip})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(python, "-c", numpyAverage)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(question), os.Stderr
		answer, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var want []float64
		if err := json.Unmarshal(answer, &want); err != nil {
			t.Fatal(err)
		}
		for i, got := range decode(t, l, out.Bytes())[0] {
			if math.Abs(float64(got)-want[i]) > 1e-6 {
				t.Fatalf("clip %g: number %d is %g, NumPy's %g", clip, i, got, want[i])
			}
		}
	}
}
