package task

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"galley/onnx"
)

// identity is a graph that ends where it begins.
func identity() *onnx.Model {
	g := &onnx.Graph{Name: "g"}
	b := onnx.NewBuilder(g)
	x := b.Input("input_ids", onnx.Int64, onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")})
	b.Output(b.Op("Identity", x), onnx.Int64, onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")})
	return &onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g}
}

// What WriteBundle writes, OpenBundleDir reads; nothing else is left behind.
func TestWriteBundle(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "bundle")
	tok := tokenizer(t)
	if err := WriteBundle(dir, identity(), config(), tok); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBundleDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	model, err := b.Model()
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := onnx.Marshal(identity()); !bytes.Equal(model, want) || b.Tokenizer.Digest() != tok.Digest() || b.Config.Labels[1] != "money" {
		t.Error("the bundle is not what was written")
	}
	for _, folder := range []string{parent, dir} {
		files, err := os.ReadDir(folder)
		if want := map[string]int{parent: 1, dir: 3}[folder]; err != nil || len(files) != want {
			t.Errorf("%s: %v %v", folder, files, err)
		}
	}
}

func TestWriteBundleErrors(t *testing.T) {
	parent := t.TempDir()
	if err := WriteBundle(filepath.Join(parent, "b"), identity(), &Config{}, tokenizer(t)); err == nil {
		t.Error("an empty configuration is written")
	}
	if err := WriteBundle(filepath.Join(parent, "absent", "b"), identity(), config(), tokenizer(t)); err == nil {
		t.Error("a folder in no folder is written")
	}
	if files, err := os.ReadDir(parent); err != nil || len(files) != 0 {
		t.Error(files, err)
	}
}

func TestDatatypes(t *testing.T) {
	for name, want := range datatypes {
		if got, ok := ParseDatatype(name); !ok || got != want || Datatype(want) != name {
			t.Error(name, got, Datatype(want))
		}
	}
	if _, ok := ParseDatatype("TEXT"); ok || Datatype(onnx.Undefined) != "" {
		t.Error("an unknown type has a name")
	}
	s := GraphSignature([]onnx.Value{
		{Name: "x", Type: onnx.Float, Shape: onnx.Shape{onnx.Symbol("n"), {Size: 3}}},
		{Name: "scalar", Type: onnx.Float, Shape: onnx.Shape{}}, {Name: "any", Type: onnx.Float},
	}, nil)
	if scalar, any := s.Inputs[1].Shape, s.Inputs[2].Shape; scalar == nil || len(scalar) != 0 || any != nil {
		t.Error(scalar, any)
	}
	if f := s.Inputs[0]; f.Datatype != "FP32" || len(f.Shape) != 2 || f.Shape[0] != -1 || f.Shape[1] != 3 {
		t.Error(f)
	}
}
