package enginetest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"galley"
	"galley/dataset"
	"galley/onnx"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
)

// student is a job whose network has another width and another vocabulary than
// its teachers; it has a third of the labels, and all texts without theirs.
func (f frozen) student(t *testing.T, teachers ...engine.Result) engine.Request {
	t.Helper()
	r := f.request(t, func(s *trainer.Spec) {
		s.Kind, s.Student.Model, s.Model = trainer.KindDistill, s.Model, trainer.Model{}
		s.Student.Hidden, s.Student.Vocabulary, s.Student.MaxLength, s.Student.NGrams.Buckets = 16, 1000, 20, 1024
		s.Temperature, s.Alpha = 2, 0.7
		s.Data.Fraction, s.Data.Unlabelled = 0.34, "headlines"
	})
	for i, teacher := range teachers {
		ref := galley.Ref{Name: "teacher", Version: i + 1}.String()
		r.Spec.Teachers = append(r.Spec.Teachers, ref)
		r.Teachers = append(r.Teachers, engine.Teacher{Ref: ref, Digest: galley.DigestBytes(model(t, teacher)), Folder: teacher.Bundle})
	}
	r.Unlabelled = &engine.Source{Digest: f.manifest.Splits[dataset.Train].Digest, Path: f.records[string(dataset.Train)]}
	r.Cache = t.TempDir()
	if err := r.Spec.Validate(); err != nil {
		t.Fatal(err)
	}
	return r
}

// notes joins what an attempt told of itself.
func notes(events []engine.Event) string {
	var b strings.Builder
	for _, e := range events {
		if e.Kind == engine.Note {
			b.WriteString(e.Message + "\n")
		}
	}
	return b.String()
}

func testDistillation(t *testing.T, d engine.Driver, data frozen) {
	one, _ := train(t, d, data.request(t, func(s *trainer.Spec) { s.Recipe.Epochs = 4 }))
	two, _ := train(t, d, data.request(t, func(s *trainer.Spec) { s.Recipe.Seed = 5 }))
	r := data.student(t, one, two)
	first, events := train(t, d, r)
	if first.Metrics["accuracy"] < 0.5 {
		t.Errorf("accuracy %v of a student whose teacher has %v", first.Metrics["accuracy"], one.Metrics["accuracy"])
	}
	if told := notes(events); strings.Count(told, "; the answers to 0 were there") != 2 {
		t.Errorf("the first run told %s", told)
	}
	bits := model(t, first)

	t.Run("Killed", func(t *testing.T) {
		again := r
		again.WorkDir = t.TempDir()
		testKilled(t, d, again)
	})
	// An attempt that ends while teachers are asked leaves what they answered.
	t.Run("Cancelled", func(t *testing.T) {
		again := r
		again.WorkDir, again.Cache = t.TempDir(), t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := d.Train(ctx, again, func(e engine.Event) {
			if e.Kind == engine.Note && strings.HasPrefix(e.Message, "teacher@1 was asked") {
				cancel()
			}
		})
		if galley.CodeOf(err) != galley.Canceled {
			t.Fatalf("a cancelled attempt returned %v", err)
		}
		result, events := train(t, d, again)
		if told := notes(events); !strings.Contains(told, "teacher@1 was asked about 0 texts") || strings.Contains(told, "teacher@2 was asked about 0 texts") {
			t.Errorf("it told %s", told)
		}
		if !bytes.Equal(model(t, result), bits) {
			t.Error("other weights")
		}
	})
	// A run that finds the answers does not open the teachers' graphs.
	t.Run("Cached", func(t *testing.T) {
		again := r
		again.WorkDir = t.TempDir()
		again.Teachers = nil
		for i, teacher := range r.Teachers {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(teacher.Folder)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "model.onnx"), []byte("no graph"), 0o600); err != nil {
				t.Fatal(err)
			}
			again.Teachers = append(again.Teachers, engine.Teacher{Ref: teacher.Ref, Digest: r.Teachers[i].Digest, Folder: dir})
		}
		result, events := train(t, d, again)
		if told := notes(events); strings.Count(told, "was asked about 0 texts") != 2 {
			t.Errorf("it told %s", told)
		}
		if !bytes.Equal(model(t, result), bits) {
			t.Error("other weights")
		}
	})
	// Damaged answers and targets are made again, to the same bits.
	t.Run("Damaged", func(t *testing.T) {
		found, err := filepath.Glob(filepath.Join(r.Cache, "*", "*"))
		if err != nil || len(found) == 0 {
			t.Fatal("no answers", err)
		}
		damage(t, found[0])
		damage(t, filepath.Join(r.WorkDir, "targets"))
		if err := os.RemoveAll(filepath.Join(r.WorkDir, "checkpoints")); err != nil {
			t.Fatal(err)
		}
		result, _ := train(t, d, r)
		if !bytes.Equal(model(t, result), bits) {
			t.Error("other weights")
		}
	})
	// The first teacher's hidden state is matched through a projection that the
	// model does not keep.
	t.Run("Hidden", func(t *testing.T) {
		hidden := r
		hidden.WorkDir, hidden.Spec.HiddenLoss = t.TempDir(), 1
		result, events := train(t, d, hidden)
		if told := notes(events); strings.Contains(told, "teacher@1 was asked about 0 texts") || !strings.Contains(told, "teacher@2 was asked about 0 texts") {
			t.Errorf("it told %s", told)
		}
		if bytes.Equal(model(t, result), bits) {
			t.Error("the same weights")
		}
		m, err := onnx.ReadFile(filepath.Join(result.Bundle, task.ModelFile), onnx.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range m.Graph.Initializers {
			if strings.Contains(w.Name, "projection") {
				t.Errorf("the model has %s", w.Name)
			}
		}
		hidden.WorkDir = t.TempDir()
		testKilled(t, d, hidden)
	})
	t.Run("Refuses", func(t *testing.T) {
		other := r
		other.WorkDir, other.Data = t.TempDir(), &dataset.Manifest{}
		*other.Data = *r.Data
		other.Data.Labels = append([]string{"weather"}, r.Data.Labels[1:]...)
		_, err := d.Train(t.Context(), other, func(engine.Event) {})
		if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), `teacher@1 tells other labels apart than the data: it does not know "weather"`) {
			t.Errorf("other labels: %v", err)
		}
	})
}

func damage(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 0x40
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
