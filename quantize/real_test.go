package quantize

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/internal/ort/orttest"
	"galley/onnx"
)

// TestRealModels quantises public models by each method and opens what comes
// of them.
func TestRealModels(t *testing.T) {
	if testing.Short() {
		t.Skip("opens large models")
	}
	models, err := filepath.Glob(filepath.Join("..", "..", "shared", "data", "models", "*", "*.onnx"))
	if err != nil || len(models) == 0 {
		t.Skipf("the shared models are not here: %v", err)
	}
	opener := orttest.Opener(t)
	for _, path := range models {
		name := filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() > 20<<20 {
				t.Skip("it is large; the benchmark and the peers' tests take such models")
			}
			m, err := onnx.ReadFile(path, onnx.ReadOptions{})
			if galley.CodeOf(err) == galley.Unimplemented {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, method := range Methods {
				o := Options{Method: method, Ranges: map[string]Range{}}
				sites, left, err := Find(m, o)
				if err != nil {
					t.Fatal(err)
				}
				for _, value := range Activations(m, sites) {
					o.Ranges[value] = Range{-6, 6}
				}
				q, result, err := Apply(m, o)
				if len(sites) == 0 {
					if galley.CodeOf(err) != galley.FailedPrecondition {
						t.Errorf("%s: %v", method, err)
					}
					t.Logf("%s: %v", method, err)
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", method, err)
				}
				s, err := open(t.Context(), opener, q, 1, name)
				if err != nil {
					t.Fatalf("%s: %v", method, err)
				}
				s.Close()
				var why []string
				for _, l := range left {
					if !slices.Contains(why, l.Op+": "+l.Why) {
						why = append(why, l.Op+": "+l.Why)
					}
				}
				t.Logf("%s: %d places, left %d: %s", method, len(result.Sites), len(result.Left), strings.Join(why, "; "))
			}
		})
	}
}
