package onnx

import (
	"os"
	"path/filepath"
	"reflect"
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
			if !reflect.DeepEqual(m, again) {
				t.Error("writing and reading again changes the model")
			}
			types, err := InferShapes(m)
			if err != nil {
				t.Fatal(err)
			}
			unknownRank, unknownType := 0, 0
			for _, n := range m.Graph.Nodes {
				for _, o := range n.Outputs {
					v, _ := types.Lookup(o)
					if v.Shape == nil {
						unknownRank++
						if unknownRank < 4 {
							t.Logf("unknown rank: %s", n.label())
						}
					}
					if v.Type == Undefined {
						unknownType++
						t.Logf("unknown type: %s", n.label())
					}
				}
			}
			t.Logf("%d nodes: %d values of unknown rank, %d of unknown type", len(m.Graph.Nodes), unknownRank, unknownType)
			for _, o := range m.Graph.Outputs {
				t.Logf("%s %v %v", o.Name, o.Shape, types.Shape(o.Name))
			}
		})
	}
}
