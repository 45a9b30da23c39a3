package onnx

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"testing"
)

// sharedModels finds the real models beside the repository; the test is
// skipped if they are absent.
func sharedModels(t testing.TB) []string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "..", "shared", "data", "models", "*", "*.onnx"))
	if len(paths) == 0 {
		t.Skip("../shared/data/models is absent: no real models to read")
	}
	return paths
}

// TestRealModels reads, checks, infers and rewrites models of other makers.
func TestRealModels(t *testing.T) {
	for _, path := range sharedModels(t) {
		t.Run(filepath.Base(filepath.Dir(path))+"/"+filepath.Base(path), func(t *testing.T) {
			m, err := ReadFile(path, ReadOptions{AnyOpset: true})
			if err != nil {
				t.Fatal(err)
			}
			data, err := Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Unmarshal(data, ReadOptions{AnyOpset: true})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(m, again) || Digest(m) != Digest(again) {
				t.Error("writing and reading again changes the model")
			}
			types, err := InferShapes(m)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range m.Graph.Nodes {
				for _, o := range n.Outputs {
					if v, ok := types.Lookup(o); !ok || v.Shape == nil || v.Type == Undefined {
						t.Errorf("%s: output %s is %v %v", n.label(), o, v.Type, v.Shape)
					}
				}
			}
			slices.Reverse(m.Graph.Nodes)
			if err := TopologicalSort(m.Graph); err != nil {
				t.Fatal(err)
			}
			RemoveUnused(m.Graph)
			if err := Check(m); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRealShapes holds what inference makes of exporters' shape arithmetic.
func TestRealShapes(t *testing.T) {
	want := map[string]map[string]string{
		"all-minilm-l6-v2/model.onnx": {
			"last_hidden_state": "[batch,length,384]", "sentence_embedding": "[batch,384]",
			"/bert/encoder/layer.0/attention/self/Softmax_output_0": "[batch,12,length,length]",
		},
		"whisper-tiny-en/encoder.onnx": {"cross_k": "[4,batch,6,1500,64]"},
		"whisper-tiny-en/decoder.onnx": {"logits": "[batch,n,51864]"},
	}
	for _, path := range sharedModels(t) {
		name := filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
		if want[name] == nil {
			continue
		}
		m, err := ReadFile(path, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		types, err := InferShapes(m)
		if err != nil {
			t.Fatal(err)
		}
		for value, shape := range want[name] {
			if got := types.Shape(value).String(); got != shape {
				t.Errorf("%s: %s has shape %s, want %s", name, value, got, shape)
			}
		}
	}
}

// TestReadMemory bounds what reading allocates, in all, by a bit more than
// twice the file: its bytes and the tensors.
func TestReadMemory(t *testing.T) {
	for _, path := range sharedModels(t) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() < 5<<20 {
			continue
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := ReadFile(path, ReadOptions{AnyOpset: true}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		ratio := float64(after.TotalAlloc-before.TotalAlloc) / float64(info.Size())
		t.Logf("%s: %.2f times its %d bytes", path, ratio, info.Size())
		if ratio > 2.3 {
			t.Errorf("%s: reading allocates %.2f times its size", path, ratio)
		}
	}
}

func BenchmarkReadFile(b *testing.B) {
	path := sharedModels(b)[0]
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	for b.Loop() {
		if _, err := ReadFile(path, ReadOptions{AnyOpset: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInferShapes(b *testing.B) {
	m, err := ReadFile(sharedModels(b)[0], ReadOptions{AnyOpset: true})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := InferShapes(m); err != nil {
			b.Fatal(err)
		}
	}
}
