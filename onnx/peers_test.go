//go:build peers

package onnx

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	onnxpb "galley/api/onnx/v1"
)

//go:embed testdata/peer.py
var peerScript string

// peer runs a command of testdata/peer.py with the onnx package of the Python
// that GALLEY_PEERS_PYTHON names, and decodes its answer.
func peer(t *testing.T, answer any, args ...string) {
	t.Helper()
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON is not set: no Python with the onnx package")
	}
	cmd := exec.Command(python, append([]string{"-c", peerScript}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("peer %v: %v", args, err)
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("peer %v answers %q: %v", args, out, err)
	}
}

// TestPeerSchema compares our field numbers with the onnx package's own.
func TestPeerSchema(t *testing.T) {
	var theirs map[string]string
	peer(t, &theirs, "schema")
	ours := map[string]string{}
	var walk func(ms protoreflect.MessageDescriptors)
	walk = func(ms protoreflect.MessageDescriptors) {
		for i := range ms.Len() {
			m := ms.Get(i)
			name := strings.TrimPrefix(string(m.FullName()), "onnx.")
			for j := range m.Fields().Len() {
				f := m.Fields().Get(j)
				kind := f.Kind().String()
				if f.Message() != nil {
					kind = string(f.Message().Name())
				}
				ours[fmt.Sprintf("%s.%d", name, f.Number())] = fmt.Sprintf("%s %s repeated=%t packed=%t", f.Name(), kind, f.IsList(), f.IsPacked())
			}
			for j := range m.Enums().Len() {
				values := m.Enums().Get(j).Values()
				for k := range values.Len() {
					ours[fmt.Sprintf("%s.%s.%s", name, m.Enums().Get(j).Name(), values.Get(k).Name())] = fmt.Sprint(values.Get(k).Number())
				}
			}
			walk(m.Messages())
		}
	}
	walk(onnxpb.File_onnx_v1_onnx_proto.Messages())
	if !reflect.DeepEqual(ours, theirs) {
		for _, k := range sortedKeys(theirs) {
			if ours[k] != theirs[k] {
				t.Errorf("%s is %q, theirs %q", k, ours[k], theirs[k])
			}
		}
		for _, k := range sortedKeys(ours) {
			if _, ok := theirs[k]; !ok {
				t.Errorf("%s is not theirs", k)
			}
		}
	}
}

// verdict is the answer of the peer about a file: what its checker says and
// the types it infers, as "float[batch,3]".
type verdict struct {
	Error string            `json:"error"`
	Types map[string]string `json:"types"`
}

// compareTypes holds that ours and theirs do not contradict each other, and
// that ours knows at least each rank that theirs knows. It returns how many
// values theirs alone knew more of.
func compareTypes(t *testing.T, ours *Types, theirs map[string]string) {
	t.Helper()
	for _, name := range sortedKeys(theirs) {
		want := val(theirs[name])
		got, ok := ours.Lookup(name)
		if !ok || want.Type == Undefined {
			continue
		}
		if got.Type != want.Type {
			t.Errorf("%s has type %v, theirs %v", name, got.Type, want.Type)
		}
		if want.Shape == nil {
			continue
		}
		if got.Shape == nil || len(got.Shape) != len(want.Shape) {
			t.Errorf("%s has shape %v, theirs %v", name, got.Shape, want.Shape)
			continue
		}
		for i, d := range want.Shape {
			if d.known() && d != got.Shape[i] {
				t.Errorf("%s has shape %v, theirs %v", name, got.Shape, want.Shape)
				break
			}
		}
	}
}

func TestPeerAcceptsWhatWeWrite(t *testing.T) {
	dir := t.TempDir()
	for i, path := range sharedModels(t) {
		m, err := ReadFile(path, ReadOptions{AnyOpset: true})
		if err != nil {
			t.Fatal(err)
		}
		for j, external := range []int64{0, 1024} {
			out := filepath.Join(dir, fmt.Sprintf("%d-%d.onnx", i, j))
			if err := WriteFile(out, m, WriteOptions{External: external}); err != nil {
				t.Fatal(err)
			}
			var v verdict
			peer(t, &v, "check", out)
			if v.Error != "" {
				t.Errorf("%s: %s", path, v.Error)
			}
			if external > 0 {
				var same bool
				if peer(t, &same, "same", path, out); !same {
					t.Errorf("%s: the peer reads other weights", path)
				}
				continue
			}
			types, err := InferShapes(m)
			if err != nil {
				t.Fatal(err)
			}
			compareTypes(t, types, v.Types)
		}
	}
}

// TestPeerInference compares inference on graphs drawn at random by the peer.
func TestPeerInference(t *testing.T) {
	dir := t.TempDir()
	var files []string
	peer(t, &files, "random", dir, "150")
	if len(files) != 150 {
		t.Fatalf("the peer wrote %d graphs", len(files))
	}
	var verdicts map[string]verdict
	peer(t, &verdicts, append([]string{"check-all"}, files...)...)
	for _, f := range files {
		m, err := ReadFile(f, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		types, err := InferShapes(m)
		if v := verdicts[f]; v.Error != "" {
			t.Fatalf("%s: %s", f, v.Error)
		}
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		compareTypes(t, types, verdicts[f].Types)
	}
}

// TestPeerRun holds inference to what ONNX Runtime computes: every size that
// is known, and every symbol under its binding, is the real one.
func TestPeerRun(t *testing.T) {
	dir := t.TempDir()
	var files []string
	peer(t, &files, "random", dir, "100")
	sizes := map[string]int64{"n": 2, "s": 5, "batch": 2, "length": 7}
	for _, path := range sharedModels(t) {
		if strings.Contains(path, "minilm") {
			files = append(files, path)
		}
	}
	bound, err := json.Marshal(sizes)
	if err != nil {
		t.Fatal(err)
	}
	var real map[string]map[string][]int64
	peer(t, &real, append([]string{"run", string(bound)}, files...)...)
	totalKnown, totalOpen := 0, 0
	for _, f := range files {
		m, err := ReadFile(f, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		types, err := InferShapes(m)
		if err != nil {
			t.Fatal(err)
		}
		known, open := 0, 0
		for name, want := range real[f] {
			got := types.Shape(name)
			if got == nil {
				open++
				continue
			}
			if len(got) != len(want) {
				t.Errorf("%s: %s has shape %v, really %v", filepath.Base(f), name, got, want)
				continue
			}
			for i, d := range got {
				size, ok := sizes[d.Symbol]
				if isAtMost(d, Symbol("length")) {
					size, ok = sizes["length"], true
				}
				switch {
				case d.known():
					size, ok = d.Size, true
				case !ok:
					open++
					continue
				}
				known++
				if size != want[i] {
					t.Errorf("%s: %s has shape %v, really %v", filepath.Base(f), name, got, want)
				}
			}
		}
		totalKnown, totalOpen = totalKnown+known, totalOpen+open
		if open > known/4 {
			t.Errorf("%s: %d sizes are known, %d open", filepath.Base(f), known, open)
		}
	}
	t.Logf("%d sizes agree, %d are open", totalKnown, totalOpen)
}

// TestPeerFiles reads what the onnx package writes in all its forms.
func TestPeerFiles(t *testing.T) {
	dir := t.TempDir()
	var want map[string]map[string][]float64
	peer(t, &want, "forms", dir)
	if len(want) < 4 {
		t.Fatalf("the peer wrote %v", sortedKeys(want))
	}
	for _, name := range sortedKeys(want) {
		m, err := ReadFile(filepath.Join(dir, name), ReadOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range m.Graph.Initializers {
			if values, ok := want[name][w.Name]; ok && !slices.Equal(tensorValues(w), values) {
				t.Errorf("%s: %s is %v, theirs %v", name, w.Name, tensorValues(w), values)
			}
			delete(want[name], w.Name)
		}
		for missing := range want[name] {
			t.Errorf("%s: %s is missing", name, missing)
		}
		out := filepath.Join(dir, "again-"+name)
		if err := WriteFile(out, m, WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		var v verdict
		if peer(t, &v, "check", out); v.Error != "" {
			t.Errorf("%s: %s", name, v.Error)
		}
	}
	m, err := ReadFile(filepath.Join(dir, "functions.onnx"), ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := m.Functions[0]
	if ref, ok := f.Nodes[0].Attrs["alpha"].(AttrRef); !ok || ref != (AttrRef{Name: "slope", Kind: "float"}) {
		t.Errorf("function attribute is %v", f.Nodes[0].Attrs)
	}
}

// tensorValues widens the elements of a tensor of one of the types that the
// peer stores.
func tensorValues(t *Tensor) []float64 {
	var out []float64
	if f, ok := t.Floats(); ok {
		for _, v := range f {
			out = append(out, float64(v))
		}
		return out
	}
	if v, ok := t.Ints(); ok {
		for _, v := range v {
			out = append(out, float64(v))
		}
		return out
	}
	for _, b := range t.Data {
		if t.Type == Int8 {
			out = append(out, float64(int8(b)))
		} else {
			out = append(out, float64(b))
		}
	}
	return out
}
