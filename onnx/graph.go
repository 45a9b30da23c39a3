// Package onnx reads, writes, builds, checks and rewrites ONNX graphs
// (opset 17 and up) without native code.
//
// A Model is plain Go data: slices and maps that a pass may change freely.
// ReadFile and WriteFile (Unmarshal, Marshal) translate it from and to the
// published protocol buffer format; Check holds its invariants; InferShapes
// finds the types of its values.
package onnx

import "fmt"

// A Model is a graph with the operator sets it is written in.
type Model struct {
	IRVersion       int64
	Opsets          map[string]int64 // domain -> version; "" is the standard domain
	ProducerName    string
	ProducerVersion string
	Domain          string // whose model it is, in reverse-DNS form
	ModelVersion    int64
	Doc             string
	Metadata        map[string]string
	Graph           *Graph
	Functions       []*Function
}

// A Graph computes named outputs from named inputs and initializers. Nodes
// are in topological order; each value is written once.
type Graph struct {
	Name         string
	Doc          string
	Inputs       []Value // without initializers
	Outputs      []Value
	Nodes        []*Node
	Initializers []*Tensor // weights and constants, by unique name
	Values       []Value   // known types and shapes of values between
	Metadata     map[string]string
}

// A Node applies one operator. An empty input or output name is an omitted
// optional one.
type Node struct {
	Name    string
	Op      string
	Domain  string // "" is the standard domain
	Inputs  []string
	Outputs []string
	Attrs   map[string]Attr
	Doc     string

	Overload string // tells functions of one name apart
	Metadata map[string]string
}

// An Attr is an attribute's value: one of int64, float32, string, []int64,
// []float32, []string, *Tensor, *Graph, []*Tensor, []*Graph and, in a
// function's body, AttrRef.
type Attr any

// A Function is an operator defined by nodes over other operators.
type Function struct {
	Name     string
	Domain   string
	Overload string
	Doc      string
	Inputs   []string
	Outputs  []string
	Attrs    []string        // attributes that a caller must give
	Defaults map[string]Attr // attributes that a caller may give
	Nodes    []*Node
	Values   []Value
	Opsets   map[string]int64
	Metadata map[string]string
}

// A Value is the name and type of an input, an output or a value between.
type Value struct {
	Name  string
	Type  DataType
	Shape Shape // nil if the rank is unknown

	Doc      string
	Metadata map[string]string
	// Other is the encoded TypeProto of a sequence, a map, an optional or a
	// sparse tensor, which are passed on unread; nil for a tensor.
	Other []byte
}

// A Shape is a list of dimensions; nil means unknown rank, an empty non-nil
// Shape is a scalar.
type Shape []Dim

// A Dim is a fixed size (Size >= 0), a symbol (Size < 0, Symbol set) or
// unknown (Size < 0, no Symbol).
type Dim struct {
	Size   int64
	Symbol string
}

// Fixed makes a shape of fixed sizes.
func Fixed(sizes ...int64) Shape {
	s := make(Shape, len(sizes))
	for i, n := range sizes {
		s[i] = Dim{Size: n}
	}
	return s
}

// Symbol makes a symbolic dimension.
func Symbol(name string) Dim { return Dim{Size: -1, Symbol: name} }

// Known reports whether every dimension has a fixed size.
func (s Shape) Known() bool {
	if s == nil {
		return false
	}
	for _, d := range s {
		if d.Size < 0 {
			return false
		}
	}
	return true
}

// String writes the shape as [batch,64,?]; an unknown rank as [...].
func (s Shape) String() string {
	if s == nil {
		return "[...]"
	}
	out := "["
	for i, d := range s {
		if i > 0 {
			out += ","
		}
		out += d.String()
	}
	return out + "]"
}

// String writes the size, the symbol (shortened and escaped if need be), or
// "?".
func (d Dim) String() string {
	switch {
	case d.Size >= 0:
		return fmt.Sprint(d.Size)
	case d.Symbol != "":
		return printable(d.Symbol)
	default:
		return "?"
	}
}

// A DataType is the element type of a tensor; the numbers are the published
// ones of TensorProto.DataType.
type DataType int32

// The element types.
const (
	Undefined DataType = 0
	Float     DataType = 1
	Uint8     DataType = 2
	Int8      DataType = 3
	Uint16    DataType = 4
	Int16     DataType = 5
	Int32     DataType = 6
	Int64     DataType = 7
	String    DataType = 8
	Bool      DataType = 9
	Float16   DataType = 10
	Double    DataType = 11
	Uint32    DataType = 12
	Uint64    DataType = 13
	BFloat16  DataType = 16
	Uint4     DataType = 21
	Int4      DataType = 22
)
