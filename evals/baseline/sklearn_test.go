//go:build peers

package baseline

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"galley/dataset"
	"galley/evals"
)

// shared returns a folder of the shared data, or skips the test.
func shared(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(dir, "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the shared data %s is not here", name)
	}
	return path
}

func readCSV(t *testing.T, path string) rows {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	if _, err := r.Read(); err != nil {
		t.Fatal(err)
	}
	var out rows
	for {
		record, err := r.Read()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(record[1:], " ")
		out = append(out, dataset.Row{Text: text, Label: record[0], Language: dataset.LanguageOf(text)})
	}
}

// The script gets the n-grams of every text, so that both sides count the
// same; it weighs and fits them itself.
const sklearnBaseline = `
import json, sys, time
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
d = json.load(sys.stdin)
split = lambda texts: [t.split("|") for t in texts]
v = TfidfVectorizer(analyzer=lambda x: x, min_df=2, sublinear_tf=d["sublinear"])
x, xv, xt = v.fit_transform(split(d["train"])), v.transform(split(d["valid"])), v.transform(split(d["test"]))
y, yv, yt = np.array(d["train_labels"]), np.array(d["valid_labels"]), np.array(d["test_labels"])
best, out, start = -1, None, time.process_time()
for c in d["c"]:
    m = LogisticRegression(C=c, max_iter=1000).fit(x, y)
    a = (m.predict(xv) == yv).mean()
    if a > best:
        best, out = a, {"c": c, "valid": a, "test": (m.predict(xt) == yt).mean(), "p": m.predict_proba(xt)[:50].tolist()}
out["seconds"] = time.process_time() - start
out["features"] = x.shape[1]
out["vector"] = sorted([[k, float(xt[0, i])] for k, i in v.vocabulary_.items() if xt[0, i]])
json.dump(out, sys.stdout)
`

func TestPeerScikitLearn(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with scikit-learn")
	}
	for _, name := range []string{"ag_news", "thucnews"} {
		for kind, sublinear := range map[string]bool{"counts": false, "sublinear": true} {
			t.Run(name+"/"+kind, func(t *testing.T) { compare(t, python, name, sublinear) })
		}
	}
}

func compare(t *testing.T, python, name string, sublinear bool) {
	folder := shared(t, name)
	all, test := readCSV(t, filepath.Join(folder, "train.csv")), readCSV(t, filepath.Join(folder, "test.csv"))
	cut := len(all) * 9 / 10
	train, valid := all[:cut], all[cut:]
	var labels []string
	for _, row := range train {
		if i, ok := slices.BinarySearch(labels, row.Label); !ok {
			labels = slices.Insert(labels, i, row.Label)
		}
	}
	o := Options{C: []float64{1, 3, 10, 30}, MinRows: 2, Sublinear: sublinear}
	start := time.Now()
	m, err := Train(t.Context(), train, valid, labels, o)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	r, err := evals.Run(t.Context(), m, evals.Sequence(test), labels, evals.Options{Latency: -1})
	if err != nil {
		t.Fatal(err)
	}
	accuracy := r.Metrics[evals.Accuracy].Value

	input := map[string]any{"c": o.C, "sublinear": sublinear}
	for split, rows := range map[string]rows{"train": train, "valid": valid, "test": test} {
		var texts, gold []string
		for _, row := range rows {
			texts, gold = append(texts, strings.Join(gramsOf(row.Text), "|")), append(gold, row.Label)
		}
		input[split], input[split+"_labels"] = texts, gold
	}
	data, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), python, "-c", sklearnBaseline)
	command.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")
	command.Stdin, command.Stderr = strings.NewReader(string(data)), os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		C, Valid, Test, Seconds float64
		Features                int
		P                       [][]float64
		Vector                  [][2]any
	}
	if err := json.Unmarshal(output, &want); err != nil {
		t.Fatal(err)
	}
	t.Logf("galley: C %v, valid %.4f, test %.4f, %d features, %.1f s; scikit-learn: C %v, valid %.4f, test %.4f, %.1f s",
		m.parameters["c"], m.parameters["valid_accuracy"], accuracy, m.vocabulary.Len(), took.Seconds(),
		want.C, want.Valid, want.Test, want.Seconds)
	if math.Abs(accuracy-want.Test) > .005 {
		t.Errorf("accuracy %.4f, scikit-learn has %.4f", accuracy, want.Test)
	}
	if m.vocabulary.Len() != want.Features {
		t.Errorf("%d features, scikit-learn has %d", m.vocabulary.Len(), want.Features)
	}
	terms := m.vocabulary.vector(nil, test[0].Text)
	if len(terms) != len(want.Vector) {
		t.Fatalf("%d terms, scikit-learn has %d", len(terms), len(want.Vector))
	}
	weights := map[int32]float32{}
	for _, x := range terms {
		weights[x.feature] = x.weight
	}
	for _, x := range want.Vector {
		if w := weights[m.vocabulary.index[x[0].(string)]]; math.Abs(float64(w)-x[1].(float64)) > 1e-6 {
			t.Errorf("%q weighs %v, in scikit-learn %v", x[0], w, x[1])
		}
	}
	if m.parameters["c"] != want.C {
		return
	}
	var texts []string
	for _, row := range test[:len(want.P)] {
		texts = append(texts, row.Text)
	}
	got, err := m.Predict(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	// Both stop before the minimum, so single texts may differ a little.
	sum, n := 0.0, 0
	for i, p := range want.P {
		for k := range p {
			sum += math.Abs(float64(got[i].Scores[k]) - p[k])
			n++
		}
	}
	if mean := sum / float64(n); mean > .005 {
		t.Errorf("probabilities differ by %.4f on average", mean)
	}
}
