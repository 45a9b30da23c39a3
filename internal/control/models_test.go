package control

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"galley"
	"galley/dataset"
	"galley/internal/blob"
	"galley/internal/ort/orttest"
	"galley/registry"
	"galley/task"
	"galley/trainer"
)

// A classifier is measured on what it was not trained on, published, promoted
// and rolled back.
func TestClassifier(t *testing.T) {
	var mu sync.Mutex
	var moves, gone []string
	w, err := openWith(t.TempDir(), orttest.Opener(t), 2, blob.Options{}, func(o *Options) {
		o.Switch = func(_ context.Context, c registry.Change) error {
			mu.Lock()
			defer mu.Unlock()
			moves = append(moves, c.Alias+" "+galley.Ref{Name: c.Model, Version: c.To}.String())
			return nil
		}
		o.Forget = func(name string, number int) {
			mu.Lock()
			defer mu.Unlock()
			gone = append(gone, galley.Ref{Name: name, Version: number}.String())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	w.add(t, "news", map[string]string{"train": rows, "valid": rows, "test": rows})
	submit := func(seed string) trainer.Job {
		j := w.wait(t, w.submit(t, jobFile("topic", "text-classification", "recipe: {epochs: 1, seed: "+seed+"}\n")).ID)
		if j.Phase != trainer.Succeeded {
			t.Fatalf("%+v %v", j, j.Error)
		}
		return j
	}
	if first, second := submit("1"), submit("2"); first.Versions[0] != "topic@1" || second.Versions[0] != "topic@2" {
		t.Errorf("%v %v", first.Versions, second.Versions)
	}
	v, aliases, err := w.Version(t.Context(), galley.Ref{Name: "topic"})
	if err != nil {
		t.Fatal(err)
	}
	if v.Number != 2 || !slices.Equal(aliases, []string{Candidate}) || !slices.Equal(v.Labels, []string{"money", "sport"}) || len(v.Reports) != 2 {
		t.Errorf("%+v %v", v, aliases)
	}
	for _, r := range v.Reports {
		report, err := w.Report(t.Context(), r.Digest)
		if err != nil || report.Ref != "topic@2" || report.N != 6 || report.Model != v.Digest {
			t.Errorf("%+v %v", report, err)
		}
	}

	// Aliases.
	one, two := galley.Ref{Name: "topic", Version: 1}, galley.Ref{Name: "topic", Version: 2}
	promote := func(ref galley.Ref, expect int64, want galley.Code) {
		t.Helper()
		if _, err := w.Promote(t.Context(), "ann", Promotion{Ref: ref, Alias: "prod", Expect: &expect, Reason: "because"}); galley.CodeOf(err) != want {
			t.Errorf("%v", err)
		}
	}
	promote(one, 0, "")
	promote(two, 0, galley.Aborted)
	promote(two, 1, galley.FailedPrecondition) // six rows show nothing
	promote(two, -1, galley.InvalidArgument)
	if c, err := w.Promote(t.Context(), "ann", Promotion{Ref: two, Alias: "prod", Force: true, Reason: "to see it"}); err != nil || c.Move != registry.Forced {
		t.Errorf("%+v %v", c, err)
	}
	if c, err := w.Rollback(t.Context(), "ann", "topic", ""); err != nil || c.From != 2 || c.To != 1 || c.Generation != 3 {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := w.Rollback(t.Context(), "ann", "topic", ""); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	// Each move reached serving before its request was answered.
	mu.Lock()
	for _, want := range []string{"candidate topic@1", "candidate topic@2", "prod topic@1", "prod topic@2"} {
		if !slices.Contains(moves, want) {
			t.Errorf("%q lack %q", moves, want)
		}
	}
	mu.Unlock()

	w.testEvaluate(t, one)
	dir := w.testExport(t, two)
	w.testImport(t, dir)
	w.testDelete(t)
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(gone, []string{"bare@1"}) {
		t.Errorf("serving forgot %q", gone)
	}
}

// Nothing deletes what is needed, or by a name that may move on meanwhile.
func (w *world) testDelete(t *testing.T) {
	t.Helper()
	for text, want := range map[string]galley.Code{
		"topic": galley.InvalidArgument, "topic:prod": galley.InvalidArgument, "topic@9": galley.NotFound,
		"topic@1": galley.FailedPrecondition, "topic@2": galley.FailedPrecondition, "bare@1": "", "bare@2": galley.NotFound,
	} {
		ref, err := galley.ParseRef(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Delete(t.Context(), "ann", ref); galley.CodeOf(err) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func (w *world) testEvaluate(t *testing.T, ref galley.Ref) {
	t.Helper()
	e := Evaluation{Ref: ref, Dataset: "news", Baseline: true}
	report, recorded, err := w.Evaluate(t.Context(), "ann", e, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.N != 6 || report.Dataset.Split != "test" || len(report.Baselines) != 1 || recorded.N != 6 {
		t.Errorf("%+v", report)
	}
	// A file, whose bad row is left out; the baseline is that of the training data.
	s, err := w.NewSpool()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Write("data", "fresh.csv", []byte(rows+"no label,\n")); err != nil {
		t.Fatal(err)
	}
	e = Evaluation{Ref: ref, Format: dataset.CSV, Baseline: true}
	if report, _, err = w.Evaluate(t.Context(), "ann", e, s); err != nil || report.N != 6 || report.Dataset.Name != "fresh.csv" || report.Dataset.Digest == "" {
		t.Errorf("%+v %v", report, err)
	}
	for _, c := range []struct {
		e    Evaluation
		code galley.Code
	}{
		{Evaluation{Ref: galley.Ref{Name: "none"}, Dataset: "news"}, galley.NotFound},
		{Evaluation{Ref: ref, Dataset: "none"}, galley.NotFound},
		{Evaluation{Ref: ref, Dataset: "news", Split: "bad"}, galley.FailedPrecondition},
		{Evaluation{Ref: ref}, galley.InvalidArgument},
	} {
		if _, _, err := w.Evaluate(t.Context(), "ann", c.e, nil); galley.CodeOf(err) != c.code {
			t.Errorf("%+v: %v", c.e, err)
		}
	}
}

func (w *world) testExport(t *testing.T, ref galley.Ref) (dir string) {
	t.Helper()
	dir = t.TempDir()
	files := map[string]galley.Digest{}
	err := w.Export(t.Context(), ref, func(a registry.Artifact, r io.Reader) error {
		data, err := io.ReadAll(r)
		if err != nil || int64(len(data)) != a.Size || galley.DigestBytes(data) != a.Digest {
			t.Errorf("%s: %d bytes, %v", a.Path, len(data), err)
		}
		files[a.Path] = a.Digest
		path := filepath.Join(dir, a.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"card.md", "galley.json", "labels.json", "lineage.json", "model.onnx", "reports/1.json", "reports/2.json", "reports/3.json", "tokenizer.json", "version.json"}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("exported %q", got)
	}
	if _, err := task.OpenBundleDir(dir); err != nil {
		t.Error(err)
	}
	return dir
}

// An exported folder can be imported, with or without galley's own file.
func (w *world) testImport(t *testing.T, dir string) {
	t.Helper()
	upload := func(names ...string) galley.Digest {
		s, err := w.NewSpool()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Write(name, name, data); err != nil {
				t.Fatal(err)
			}
		}
		digest, err := w.Upload(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	// With its lineage it is the version that it was.
	was, err := w.store.Version(t.Context(), "topic", 2)
	if err != nil {
		t.Fatal(err)
	}
	whole := []string{"model.onnx", "tokenizer.json", "galley.json", "lineage.json"}
	again, err := w.Import(t.Context(), "ann", "again", upload(whole...), "")
	if err != nil || again.Version.Digest != was.Digest || again.Version.Lineage.External != "topic@2 of job "+was.Lineage.Job || again.Version.Lineage.Job != "" || again.Version.Lineage.DatasetDigest != was.Lineage.DatasetDigest ||
		string(again.Version.Lineage.Spec) != string(was.Lineage.Spec) || again.Version.Lineage.Splits["train"].Rows != 6 {
		t.Errorf("%+v %v", again, err)
	}
	same, err := w.Import(t.Context(), "ann", "topic", upload(whole...), "text-classification")
	if err != nil || same.Version.Ref() != "topic@2" || same.Version.Lineage.External != "" {
		t.Errorf("%+v %v", same, err)
	}
	told, err := os.ReadFile(filepath.Join(dir, "lineage.json"))
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		`"galley-lineage/1"`: `"galley-lineage/9"`, string(was.Digest): string(galley.DigestBytes(nil)), string(was.Lineage.DatasetDigest): string(galley.DigestBytes(nil)),
		`"sport"`: `"weather"`, `"artifacts"`: `"files"`, string(was.Artifacts[1].Digest): string(galley.DigestBytes(nil)), `{`: `[`,
	} {
		if err := os.WriteFile(filepath.Join(dir, "lineage.json"), []byte(strings.Replace(string(told), from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := w.Import(t.Context(), "ann", "forged", upload(whole...), ""); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%s for %s: %+v %v", to, from, got, err)
		}
	}
	full := upload("model.onnx", "tokenizer.json", "galley.json")
	got, err := w.Import(t.Context(), "ann", "full", full, "text-classification")
	if err != nil || got.Version.Task != "text-classification" || len(got.Untrainable) != 0 {
		t.Errorf("%+v %v", got, err)
	}
	// The graph has no mask, so that its interface must be said.
	bare := upload("model.onnx", "tokenizer.json", "labels.json")
	if got, err = w.Import(t.Context(), "ann", "bare", bare, ""); err != nil || got.Version.Task != "" || got.Version.Ref() != "bare@1" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err = w.Import(t.Context(), "ann", "bare", bare, "text-classification"); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	if _, err = w.Import(t.Context(), "ann", "bare", bare, "text-mlm"); galley.CodeOf(err) != galley.InvalidArgument {
		t.Error(err)
	}
	// A job may go on from an upload that has a tokenizer.
	_, err = w.Submit(t.Context(), "ann", jobFile("onward", "text-mlm", "from: "+string(upload("model.onnx"))+"\n"), nil, "")
	if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Error(err)
	}
	j := w.wait(t, w.submit(t, jobFile("onward", "text-mlm", "recipe: {epochs: 1}\nfrom: "+string(full)+"\n")).ID)
	if j.Phase != trainer.Succeeded || j.Parent != full || j.ParentRef != "" {
		t.Errorf("%+v", j)
	}
	if tree, err := w.Lineage(t.Context(), galley.Ref{Name: "onward"}); err != nil || tree.Parent == nil || tree.Parent.Digest != full {
		t.Errorf("%+v %v", tree, err)
	}
}

func TestUploadRefuses(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	for _, c := range []struct {
		name, data string
		code       galley.Code
	}{
		{"weights.bin", "x", galley.InvalidArgument},
		{"model.onnx", "\x3a\xff", galley.InvalidArgument},
		{"../model.onnx", "x", galley.InvalidArgument},
		{"/etc/model.onnx", "x", galley.InvalidArgument},
		{"a\x00b", "x", galley.InvalidArgument},
		{strings.Repeat("x", 300), "x", galley.InvalidArgument},
	} {
		s, err := w.NewSpool()
		if err != nil {
			t.Fatal(err)
		}
		err = s.Write(c.name, "", []byte(c.data))
		if err == nil {
			_, err = w.Upload(t.Context(), s)
		}
		if galley.CodeOf(err) != c.code {
			t.Errorf("%q: %v", c.name, err)
		}
		s.Close()
		if entries, err := os.ReadDir(w.temp()); err != nil || len(entries) != 0 {
			t.Errorf("left behind: %v %v", entries, err)
		}
	}
}

// What lineage says is the same after a trip through JSON.
func TestStagedRoundTrip(t *testing.T) {
	v, err := registry.Version{
		Name: "a", Task: "text-mlm", Artifacts: []registry.Artifact{{Path: "model.onnx", Digest: galley.DigestBytes(nil)}},
		Lineage: registry.Lineage{Spec: json.RawMessage(`{"name":"a","lr":1e-7}`)},
	}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(staged{Version: v})
	if err != nil {
		t.Fatal(err)
	}
	var back staged
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if back.Version.ContentDigest() != v.Digest || string(back.Version.Lineage.Spec) != string(v.Lineage.Spec) {
		t.Errorf("%+v", back)
	}
}
