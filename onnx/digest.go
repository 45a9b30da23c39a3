package onnx

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"math"

	"galley"
)

// Digest names a model by its content. Models have the same digest exactly if
// Marshal writes the same bytes for them, but the digest does not depend on
// the encoding: it also serves models too large for one file, and stays the
// same wherever the data lies.
func Digest(m *Model) galley.Digest {
	sum := sha256.New()
	w := &digester{out: bufio.NewWriterSize(sum, 1<<16)}
	w.model(m)
	w.out.Flush() // a hash takes everything
	return galley.SumDigest(sum)
}

// A digester writes an unambiguous form of a model: each string and list
// begins with its length, maps go in the order of their keys.
type digester struct{ out *bufio.Writer }

func (w *digester) int(v int64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(v))
	w.out.Write(b[:])
}

func (w *digester) text(s string) {
	w.int(int64(len(s)))
	w.out.WriteString(s)
}

func (w *digester) bytes(b []byte) {
	w.int(int64(len(b)))
	w.out.Write(b)
}

func (w *digester) texts(list []string) {
	w.int(int64(len(list)))
	for _, s := range list {
		w.text(s)
	}
}

func (w *digester) metadata(m map[string]string) {
	w.int(int64(len(m)))
	for _, k := range sortedKeys(m) {
		w.text(k)
		w.text(m[k])
	}
}

func (w *digester) opsets(m map[string]int64) {
	w.int(int64(len(m)))
	for _, k := range sortedKeys(m) {
		w.text(k)
		w.int(m[k])
	}
}

func (w *digester) model(m *Model) {
	w.text("galley onnx model 1")
	w.int(m.IRVersion)
	w.opsets(m.Opsets)
	for _, s := range []string{m.ProducerName, m.ProducerVersion, m.Domain, m.Doc} {
		w.text(s)
	}
	w.int(m.ModelVersion)
	w.metadata(m.Metadata)
	w.graph(m.Graph)
	w.int(int64(len(m.Functions)))
	for _, f := range m.Functions {
		w.function(f)
	}
}

func (w *digester) graph(g *Graph) {
	if g == nil {
		w.int(-1)
		return
	}
	w.text(g.Name)
	w.text(g.Doc)
	w.metadata(g.Metadata)
	w.values(g.Inputs)
	w.values(g.Outputs)
	w.values(g.Values)
	w.int(int64(len(g.Initializers)))
	for _, t := range g.Initializers {
		w.tensor(t)
	}
	w.nodes(g.Nodes)
}

func (w *digester) function(f *Function) {
	for _, s := range []string{f.Name, f.Domain, f.Overload, f.Doc} {
		w.text(s)
	}
	w.texts(f.Inputs)
	w.texts(f.Outputs)
	w.texts(f.Attrs)
	w.attrs(f.Defaults)
	w.opsets(f.Opsets)
	w.metadata(f.Metadata)
	w.values(f.Values)
	w.nodes(f.Nodes)
}

func (w *digester) nodes(nodes []*Node) {
	w.int(int64(len(nodes)))
	for _, n := range nodes {
		for _, s := range []string{n.Name, n.Op, n.Domain, n.Overload, n.Doc} {
			w.text(s)
		}
		w.texts(n.Inputs)
		w.texts(n.Outputs)
		w.metadata(n.Metadata)
		w.attrs(n.Attrs)
	}
}

func (w *digester) values(values []Value) {
	w.int(int64(len(values)))
	for _, v := range values {
		w.text(v.Name)
		w.text(v.Doc)
		w.metadata(v.Metadata)
		if v.Other != nil {
			w.int(-1)
			w.bytes(v.Other)
			continue
		}
		w.int(int64(v.Type))
		if v.Shape == nil {
			w.int(-1)
			continue
		}
		w.int(int64(len(v.Shape)))
		for _, d := range v.Shape {
			w.int(max(d.Size, -1))
			if d.Size < 0 {
				w.text(d.Symbol)
			}
		}
	}
}

func (w *digester) attrs(attrs map[string]Attr) {
	w.int(int64(len(attrs)))
	for _, name := range sortedKeys(attrs) {
		w.text(name)
		w.attr(attrs[name])
	}
}

// attr writes a tag and the value, so that no two kinds look alike.
func (w *digester) attr(a Attr) {
	switch a := a.(type) {
	case int64:
		w.text("int")
		w.int(a)
	case float32:
		w.text("float")
		w.int(int64(math.Float32bits(a)))
	case string:
		w.text("string")
		w.text(a)
	case []int64:
		w.text("ints")
		w.int(int64(len(a)))
		for _, v := range a {
			w.int(v)
		}
	case []float32:
		w.text("floats")
		w.int(int64(len(a)))
		for _, v := range a {
			w.int(int64(math.Float32bits(v)))
		}
	case []string:
		w.text("strings")
		w.texts(a)
	case *Tensor:
		w.text("tensor")
		w.tensor(a)
	case []*Tensor:
		w.text("tensors")
		w.int(int64(len(a)))
		for _, t := range a {
			w.tensor(t)
		}
	case *Graph:
		w.text("graph")
		w.graph(a)
	case []*Graph:
		w.text("graphs")
		w.int(int64(len(a)))
		for _, g := range a {
			w.graph(g)
		}
	case AttrRef:
		w.text("ref")
		w.text(a.Name)
		w.text(a.Kind)
	}
}

func (w *digester) tensor(t *Tensor) {
	w.text(t.Name)
	w.int(int64(t.Type))
	w.int(int64(len(t.Dims)))
	for _, d := range t.Dims {
		w.int(d)
	}
	w.bytes(t.Data)
	w.int(int64(len(t.Strings)))
	for _, s := range t.Strings {
		w.bytes(s)
	}
}
