//go:build accuracy

package examples_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gonum.org/v1/gonum/stat"

	"galley"
	"galley/dataset"
	"galley/internal/ort/orttest"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
	"galley/trainer/engine/onnx"
)

// distilled trains a job file of kind Distill with teachers; answers are kept
// in cache. With unlabelled the data's texts are its unlabelled data, too.
func distilled(t *testing.T, path string, data frozen, cache string, teachers []engine.Result, unlabelled bool, sets ...string) engine.Result {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	names := "teachers=["
	r := engine.Request{Attempt: 1, Data: data.manifest, Records: data.records, WorkDir: t.TempDir(), Cache: cache}
	for i, teacher := range teachers {
		graph, err := os.ReadFile(filepath.Join(teacher.Bundle, task.ModelFile))
		if err != nil {
			t.Fatal(err)
		}
		ref := galley.Ref{Name: "teacher", Version: i + 1}.String()
		names += ref + ", "
		r.Teachers = append(r.Teachers, engine.Teacher{Ref: ref, Digest: galley.DigestBytes(graph), Folder: teacher.Bundle})
	}
	sets = append(sets, names[:len(names)-2]+"]")
	if unlabelled {
		sets = append(sets, "data.unlabelled=texts")
		r.Unlabelled = &engine.Source{Digest: data.manifest.Splits[dataset.Train].Digest, Path: data.records[string(dataset.Train)]}
	}
	spec, problems := trainer.ParseFile(file, sets)
	if problems != nil {
		t.Fatal(problems)
	}
	r.Job, r.Spec = spec.Name, spec
	began := time.Now()
	result, err := onnx.Driver{Opener: orttest.Opener(t)}.Train(t.Context(), r, func(e engine.Event) {
		if e.Kind == engine.Validated || e.Kind == engine.Started || e.Kind == engine.Note {
			t.Logf("%s %s step %d %v %s (%.0f s)", spec.Name, e.Kind, e.Step, e.Metrics, e.Message, time.Since(began).Seconds())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// bundleBytes is the size of a model's files.
func bundleBytes(t *testing.T, result engine.Result) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(result.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

// TestDistillation holds the students of the shipped files, means of three
// seeds, to 98.5 % of their teacher's accuracy at a third of its size.
func TestDistillation(t *testing.T) {
	for _, name := range []string{"ag-news", "thucnews"} {
		t.Run(name, func(t *testing.T) {
			data, cache := freeze(t, name, sources(t)[name]), t.TempDir()
			teacher, _ := job(t, "jobs/"+name+".yaml", data, "")
			report, _ := evaluate(t, teacher, data, "test")
			want, size, sum := report.Metrics["accuracy"].Value, bundleBytes(t, teacher), 0.0
			for seed := 1; seed <= 3; seed++ {
				result := distilled(t, "jobs/"+name+"-distill.yaml", data, cache, []engine.Result{teacher}, false, fmt.Sprintf("recipe.seed=%d", seed))
				report, _ := evaluate(t, result, data, "test")
				accuracy, small := report.Metrics["accuracy"].Value, bundleBytes(t, result)
				t.Logf("%s seed %d: student %.4f in %.1f MB, teacher %.4f in %.1f MB", name, seed, accuracy, float64(small)/1e6, want, float64(size)/1e6)
				if 3*small > size {
					t.Errorf("the student has %d bytes, its teacher %d", small, size)
				}
				sum += accuracy / 3
			}
			t.Logf("%s: the student keeps %.2f %% of %.4f", name, 100*sum/want, want)
			if sum < .985*want {
				t.Errorf("the student has %.4f, its teacher %.4f", sum, want)
			}
		})
	}
}

// TestFewLabelsDistilled holds what teachers are worth where one row in five
// has a label: two models of those labels, a larger one and the student's own
// network, answer about all texts; the student that learns from both beats the
// network that has the labels alone, on the rows of both sets.
func TestFewLabelsDistilled(t *testing.T) {
	var gains []float64 // of each row: its mean over the seeds
	for _, name := range []string{"ag-news", "thucnews"} {
		data := freeze(t, name, sources(t)[name])
		rows := make([]float64, data.manifest.Splits[dataset.Test].Rows)
		for seed := 1; seed <= 3; seed++ {
			few := []string{"data.fraction=0.2", fmt.Sprintf("recipe.seed=%d", seed)}
			network := []string{"model.layers=1", "model.hidden=64", "model.feed_forward=128", "model.ngrams.buckets=32768"}
			large, _ := job(t, "jobs/"+name+".yaml", data, "", append(few, "recipe.epochs=12")...)
			alone, _ := job(t, "jobs/"+name+".yaml", data, "", append(append(few, "recipe.epochs=16"), network...)...)
			student := distilled(t, "jobs/"+name+"-distill.yaml", data, t.TempDir(), []engine.Result{large, alone}, true, few...)
			before, without := evaluate(t, alone, data, "test")
			after, with := evaluate(t, student, data, "test")
			t.Logf("%s seed %d: labels alone %.4f, with teachers %.4f", name, seed, before.Metrics["accuracy"].Value, after.Metrics["accuracy"].Value)
			for i := range rows {
				if with[i] {
					rows[i] += 1. / 3
				}
				if without[i] {
					rows[i] -= 1. / 3
				}
			}
		}
		t.Logf("%s: teachers gain %.4f", name, stat.Mean(rows, nil))
		gains = append(gains, rows...)
	}
	// Rows are what was drawn: the three seeds of one are not independent.
	mean, deviation := stat.MeanStdDev(gains, nil)
	half := 1.96 * deviation / math.Sqrt(float64(len(gains)))
	t.Logf("teachers gain %.4f [%.4f, %.4f] on %d rows", mean, mean-half, mean+half, len(gains))
	if mean-half <= 0 {
		t.Error("teachers are not worth their time")
	}
}
