package onnx

import (
	"testing"

	"google.golang.org/protobuf/proto"
)

// FuzzUnmarshal holds that any bytes give a model or an error in bounded time
// and memory, and that a model that was read can be checked, inferred,
// written and read again.
func FuzzUnmarshal(f *testing.F) {
	for _, p := range []proto.Message{tiny(), nested(3), external(tiny(), "location", "../x")} {
		data, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	data, err := Marshal(branching())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	opts := ReadOptions{AnyOpset: true, Limits: Limits{
		Bytes: 1 << 20, TensorBytes: 1 << 20, Nodes: 1000, Tensors: 1000, Elements: 10_000, Depth: 4,
	}}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Unmarshal(data, opts)
		if err != nil {
			if m != nil {
				t.Error("a model came with the error")
			}
			return
		}
		if err := Check(m); err != nil {
			t.Fatalf("read a model that fails its check: %v", err)
		}
		if types, err := InferShapes(m); err == nil {
			for _, v := range types.Values() {
				types.Constant(v.Name)
			}
		}
		digest := Digest(m)
		written, err := Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Unmarshal(written, ReadOptions{AnyOpset: true})
		if err != nil {
			t.Fatalf("wrote a model that cannot be read: %v", err)
		}
		if Digest(again) != digest {
			t.Error("writing and reading changes the digest")
		}
		RemoveUnused(m.Graph)
		if err := Check(m); err != nil {
			t.Errorf("removing unused nodes breaks the model: %v", err)
		}
	})
}
