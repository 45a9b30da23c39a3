//go:build peers

package peers_test

import (
	"encoding/csv"
	"strings"
	"testing"

	"galley/examples/headlines"
)

// The exported folder answers in Python's onnxruntime with tokenizers as the
// server does, text by text and in padded batches, and its graph is one that
// any ONNX tool takes.
func TestPeerExport(t *testing.T) {
	python(t)
	s := quickstart(t)
	dir := t.TempDir()
	var exported struct {
		Files []struct{ Path, Digest string }
	}
	s.call(t, &exported, "models", "export", "headlines:prod", "--out", dir)
	paths := make([]string, len(exported.Files))
	for i, f := range exported.Files {
		paths[i] = f.Path
	}
	for _, want := range []string{"model.onnx", "tokenizer.json", "galley.json", "labels.json", "card.md", "version.json", "reports/1.json"} {
		if !strings.Contains("\n"+strings.Join(paths, "\n")+"\n", "\n"+want+"\n") {
			t.Errorf("the export has no %s, only %q", want, paths)
		}
	}
	texts := testTexts(t)
	want := predict(t, s, "headlines:prod", texts)
	var got struct {
		Checks          []check
		Single, Batched []answer
	}
	runScript(t, map[string]any{"texts": texts}, &got, "exported.py", dir)
	report(t, got.Checks)
	t.Run("one by one", func(t *testing.T) { sameAnswers(t, got.Single, want.Outputs, texts, 1e-5) })
	t.Run("padded batches", func(t *testing.T) { sameAnswers(t, got.Batched, want.Outputs, texts, 1e-5) })
}

// testTexts reads the headlines of the test split.
func testTexts(t *testing.T) (texts []string) {
	t.Helper()
	f, err := headlines.Files.Open("test.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		texts = append(texts, row[0])
	}
	if len(texts) != 480 {
		t.Fatalf("%d test headlines", len(texts))
	}
	return texts
}
