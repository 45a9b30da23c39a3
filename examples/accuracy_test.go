//go:build accuracy

// Package examples_test trains the shipped job files on the shared data and
// holds them to what their comments promise. It takes about half an hour on two
// idle cores:
//
//	make test-accuracy
package examples_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/stat"

	"galley/dataset"
	"galley/evals"
	"galley/internal/ort/orttest"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
	"galley/trainer/engine/onnx"
)

// A source is a dataset that job files name.
type source struct {
	train, valid, test string
	columns            string
}

func sources(t *testing.T) map[string]source {
	shared := filepath.Join("..", "..", "shared", "data")
	if _, err := os.Stat(shared); err != nil {
		t.Skip("the shared data are not here")
	}
	return map[string]source{
		"ag-news": {
			train: filepath.Join(shared, "ag_news", "train.csv"), test: filepath.Join(shared, "ag_news", "test.csv"),
			columns: "text=title+description,label=label",
		},
		"thucnews": {
			train: filepath.Join(shared, "thucnews", "train.csv"), test: filepath.Join(shared, "thucnews", "test.csv"),
			columns: "text=title,label=label",
		},
		"headlines": {
			train: "headlines/train.csv", valid: "headlines/valid.csv", test: "headlines/test.csv",
			columns: "text=text,label=label,language=language",
		},
	}
}

// frozen is a dataset as record files.
type frozen struct {
	manifest *dataset.Manifest
	records  map[string]string
}

func freeze(t *testing.T, name string, s source) frozen {
	t.Helper()
	dir := t.TempDir()
	columns, err := dataset.ParseColumns(s.columns)
	if err != nil {
		t.Fatal(err)
	}
	open := func(path string) *dataset.Input {
		if path == "" {
			return nil
		}
		return &dataset.Input{Name: path, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
	}
	f := frozen{records: map[string]string{}}
	f.manifest, _, err = dataset.Freeze(t.Context(), dataset.FreezeOptions{Name: name, Format: dataset.CSV, Columns: columns, NeedLabel: true, Seed: 1},
		dataset.Inputs{Train: open(s.train), Valid: open(s.valid), Test: open(s.test)},
		func(split dataset.Split) (io.Writer, error) {
			f.records[string(split)] = filepath.Join(dir, string(split))
			return os.Create(f.records[string(split)])
		})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// job trains a job file and returns the folder of its bundle and the seconds
// it took.
func job(t *testing.T, path string, data frozen, parent string, sets ...string) (engine.Result, float64) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	spec, problems := trainer.ParseFile(file, sets)
	if problems != nil {
		t.Fatal(problems)
	}
	began := time.Now()
	result, err := onnx.Driver{Opener: orttest.Opener(t)}.Train(t.Context(), engine.Request{
		Job: spec.Name, Attempt: 1, Spec: spec, Data: data.manifest, Records: data.records, Parent: parent, WorkDir: t.TempDir(),
	}, func(e engine.Event) {
		if e.Kind == engine.Validated || e.Kind == engine.Started || e.Kind == engine.Note {
			t.Logf("%s %s step %d %v %s (%.0f s)", spec.Name, e.Kind, e.Step, e.Metrics, e.Message, time.Since(began).Seconds())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return result, time.Since(began).Seconds()
}

// predictor answers with a bundle.
type predictor struct{ *task.TextPredictor }

func (p predictor) Predict(ctx context.Context, texts []string) ([]evals.Prediction, error) {
	answers, err := p.TextPredictor.Predict(ctx, texts)
	out := make([]evals.Prediction, len(answers))
	for i, a := range answers {
		out[i] = evals.Prediction{Scores: a.Scores, Truncated: a.Truncated}
	}
	return out, err
}

// evaluate measures a bundle on a split; right tells which rows it got right.
func evaluate(t *testing.T, result engine.Result, data frozen, split string) (report *evals.Report, right []bool) {
	t.Helper()
	bundle, err := task.OpenBundleDir(result.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	s, err := orttest.Opener(t).OpenFile(t.Context(), bundle.ModelPath(), session.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	classifier, err := task.NewTextClassifier(bundle.Config, bundle.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	p, err := task.NewTextPredictor(classifier, s)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := dataset.OpenRecordsFile(data.records[split])
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	right = make([]bool, rows.Len())
	report, err = evals.Run(t.Context(), predictor{p}, evals.Sequence(rows), bundle.Config.Labels, evals.Options{
		Latency: -1, Observe: func(row, gold, predicted int) { right[row] = gold == predicted },
	})
	if err != nil {
		t.Fatal(err)
	}
	return report, right
}

// scikitLearn fits TF-IDF with logistic regression, tuned on the validation
// split, and returns its accuracy on the test split.
func scikitLearn(t *testing.T, name string, data frozen) float64 {
	t.Helper()
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON is not set: make test-accuracy sets it")
	}
	dir := t.TempDir()
	for _, split := range []string{"train", "valid", "test"} {
		rows, err := dataset.OpenRecordsFile(data.records[split])
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		f, err := os.Create(filepath.Join(dir, split+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		w := csv.NewWriter(f)
		for row, err := range evals.Sequence(rows) {
			if err == nil {
				err = w.Write([]string{row.Text, row.Label})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		w.Flush()
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "tfidf.py"), dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	accuracy, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: TF-IDF with logistic regression %.4f", name, accuracy)
	return accuracy
}

// TestShippedJobs holds the shipped job files to their bars on the test
// splits, and the shortest file to a point below them: means of three seeds.
func TestShippedJobs(t *testing.T) {
	for _, c := range []struct {
		data string
		bar  float64
	}{{"ag-news", .870}, {"thucnews", .885}} {
		t.Run(c.data, func(t *testing.T) {
			data := freeze(t, c.data, sources(t)[c.data])
			baseline := scikitLearn(t, c.data, data)
			mean := func(path string) float64 {
				sum := 0.0
				for seed := 1; seed <= 3; seed++ {
					result, seconds := job(t, path, data, "", "data.dataset="+c.data, fmt.Sprintf("recipe.seed=%d", seed))
					report, _ := evaluate(t, result, data, "test")
					t.Logf("%s seed %d: %.4f in %.0f s", path, seed, report.Metrics["accuracy"].Value, seconds)
					sum += report.Metrics["accuracy"].Value
				}
				return sum / 3
			}
			shipped, shortest := mean("jobs/"+c.data+".yaml"), mean("jobs/shortest.yaml")
			t.Logf("%s: shipped %.4f, shortest %.4f, TF-IDF %.4f", c.data, shipped, shortest, baseline)
			if shipped < c.bar || shipped < baseline-.005 {
				t.Errorf("the shipped job file has %.4f, want %.3f and at least %.4f", shipped, c.bar, baseline-.005)
			}
			if shortest < shipped-.01 {
				t.Errorf("the shortest job file has %.4f, the shipped one %.4f", shortest, shipped)
			}
		})
	}
}

// TestPretraining holds that pretraining is worth its time where labels are
// few: with one in ten and the encoder alone, classifiers that go on from a
// pretrained encoder beat those from scratch, on the rows of both sets.
func TestPretraining(t *testing.T) {
	var gains []float64 // of each row: its mean over the seeds
	for _, set := range []struct {
		name   string
		length int
	}{{"ag-news", 96}, {"thucnews", 48}} {
		name := set.name
		data := freeze(t, name, sources(t)[name])
		base, seconds := job(t, "jobs/"+name+"-base.yaml", data, "", "data.dataset="+name)
		t.Logf("%s pretrained in %.0f s: %v", name, seconds, base.Metrics)
		rows := make([]float64, data.manifest.Splits[dataset.Test].Rows)
		for seed := 1; seed <= 3; seed++ {
			sets := []string{"data.dataset=" + name, fmt.Sprintf("recipe.seed=%d", seed), fmt.Sprintf("model.max_length=%d", set.length)}
			classify := func(from, parent string, sets ...string) []bool {
				result, seconds := job(t, "jobs/few-labels.yaml", data, parent, sets...)
				report, right := evaluate(t, result, data, "test")
				t.Logf("%s seed %d, %s: %.4f in %.0f s", name, seed, from, report.Metrics["accuracy"].Value, seconds)
				return right
			}
			scratch, pretrained := classify("from scratch", "", sets...), classify("pretrained", base.Bundle, append(sets, "from="+name+"-base")...)
			for i := range rows {
				if pretrained[i] {
					rows[i] += 1. / 3
				}
				if scratch[i] {
					rows[i] -= 1. / 3
				}
			}
		}
		t.Logf("%s: pretraining gains %.4f", name, stat.Mean(rows, nil))
		gains = append(gains, rows...)
	}
	// Rows are what was drawn: the three seeds of one are not independent.
	mean, deviation := stat.MeanStdDev(gains, nil)
	half := 1.96 * deviation / math.Sqrt(float64(len(gains)))
	t.Logf("pretraining gains %.4f [%.4f, %.4f] on %d rows", mean, mean-half, mean+half, len(gains))
	if mean-half <= 0 {
		t.Error("pretraining is not worth its time")
	}
}

// TestMiniLM fine-tunes a public sentence encoder through from: and states its
// accuracy beside the others.
func TestMiniLM(t *testing.T) {
	graph, err := filepath.Abs("../../shared/data/models/all-minilm-l6-v2")
	if err != nil {
		t.Fatal(err)
	}
	data := freeze(t, "ag-news", sources(t)["ag-news"])
	result, seconds := job(t, "jobs/minilm.yaml", data, graph, "data.dataset=ag-news")
	report, _ := evaluate(t, result, data, "test")
	t.Logf("MiniLM on AG News: %.4f in %.0f s", report.Metrics["accuracy"].Value, seconds)
	if report.Metrics["accuracy"].Value < .88 {
		t.Error("a pretrained public encoder should do better than one from scratch")
	}
}

// TestTry trains one job file with the sets in GALLEY_SETS (separated by
// blanks) and prints the accuracy on the split in GALLEY_SPLIT, for finding
// out what a change is worth.
func TestTry(t *testing.T) {
	path := os.Getenv("GALLEY_JOB")
	if path == "" {
		t.Skip("GALLEY_JOB names no job file")
	}
	name := os.Getenv("GALLEY_DATA")
	data := freeze(t, name, sources(t)[name])
	split := os.Getenv("GALLEY_SPLIT")
	if split == "" {
		split = "valid"
	}
	seeds, _ := strconv.Atoi(os.Getenv("GALLEY_SEEDS"))
	sum := 0.0
	for seed := 1; seed <= max(seeds, 1); seed++ {
		sets := append(strings.Fields(os.Getenv("GALLEY_SETS")), "data.dataset="+name, fmt.Sprintf("recipe.seed=%d", seed))
		parent := ""
		if base := os.Getenv("GALLEY_PRETRAIN"); base != "" {
			result, seconds := job(t, base, data, "", append(strings.Fields(os.Getenv("GALLEY_PRETRAIN_SETS")), "data.dataset="+name)...)
			t.Logf("pretrained in %.0f s: %v", seconds, result.Metrics)
			parent = result.Bundle
		}
		result, seconds := job(t, path, data, parent, sets...)
		report, _ := evaluate(t, result, data, split)
		t.Logf("RESULT %s seed %d %s accuracy %.4f best step %d of %d, %.0f s, truncated %d", name, seed, split, report.Metrics["accuracy"].Value, result.BestStep, result.Steps, seconds, result.Truncated)
		sum += report.Metrics["accuracy"].Value
	}
	t.Logf("MEAN %s %s %.4f", name, split, sum/float64(max(seeds, 1)))
}
