package onnx

import "fmt"

// A Builder appends nodes to a graph under fresh names.
//
//	b := onnx.NewBuilder(g)
//	h := b.Op("MatMul", x, w)
//	h = b.Op("Add", h, bias)
type Builder struct {
	Graph  *Graph
	prefix string
	taken  map[string]bool
	counts map[string]int
	consts map[string]string
}

// NewBuilder builds onto g; names already used there are not given again.
func NewBuilder(g *Graph) *Builder {
	b := &Builder{Graph: g, taken: map[string]bool{}, counts: map[string]int{}, consts: map[string]string{}}
	b.take(g)
	return b
}

// take marks the names of g and of its subgraphs, which may not repeat those
// around them.
func (b *Builder) take(g *Graph) {
	for _, v := range g.Inputs {
		b.taken[v.Name] = true
	}
	for _, t := range g.Initializers {
		b.taken[t.Name] = true
	}
	for _, n := range g.Nodes {
		b.taken[n.Name] = true
		for _, o := range n.Outputs {
			b.taken[o] = true
		}
		n.eachGraph(b.take)
	}
}

// SetPrefix puts prefix before the names that are made from now on.
func (b *Builder) SetPrefix(prefix string) { b.prefix = prefix }

// Name returns a name that is not taken, made from base.
func (b *Builder) Name(base string) string {
	base = b.prefix + base
	name := base
	for b.taken[name] {
		b.counts[base]++
		name = fmt.Sprintf("%s_%d", base, b.counts[base])
	}
	b.taken[name] = true
	return name
}

// Input declares a graph input and returns its name.
func (b *Builder) Input(name string, t DataType, shape Shape) string {
	b.taken[name] = true
	b.Graph.Inputs = append(b.Graph.Inputs, Value{Name: name, Type: t, Shape: shape})
	return name
}

// Output declares value as a graph output under its own name.
func (b *Builder) Output(value string, t DataType, shape Shape) {
	b.Graph.Outputs = append(b.Graph.Outputs, Value{Name: value, Type: t, Shape: shape})
}

// Weight adds an initializer under exactly its name and returns the name.
func (b *Builder) Weight(t *Tensor) string {
	b.taken[t.Name] = true
	b.Graph.Initializers = append(b.Graph.Initializers, t)
	return t.Name
}

// Ints adds (once per value) an int64 constant vector.
func (b *Builder) Ints(values ...int64) string {
	return b.constant(fmt.Sprint("i", values), func(name string) *Tensor {
		return NewInt64(name, values, int64(len(values)))
	})
}

// Int adds (once per value) an int64 scalar constant.
func (b *Builder) Int(v int64) string {
	return b.constant(fmt.Sprint("is", v), func(name string) *Tensor { return NewInt64(name, []int64{v}) })
}

// Float adds (once per value) a float32 scalar constant.
func (b *Builder) Float(v float32) string {
	return b.constant(fmt.Sprint("f", v), func(name string) *Tensor { return NewFloat(name, []float32{v}) })
}

func (b *Builder) constant(key string, make func(name string) *Tensor) string {
	if name, ok := b.consts[key]; ok {
		return name
	}
	name := b.Name("const")
	b.consts[key] = name
	b.Graph.Initializers = append(b.Graph.Initializers, make(name))
	return name
}

// Op appends a node of the standard domain with one output and returns the
// output's name.
func (b *Builder) Op(op string, inputs ...string) string {
	return b.OpAttrs(op, nil, inputs...)
}

// OpAttrs is Op with attributes.
func (b *Builder) OpAttrs(op string, attrs map[string]Attr, inputs ...string) string {
	return b.Node("", op, attrs, 1, inputs...)[0]
}

// Node appends a node of the given domain with n outputs and returns their
// names.
func (b *Builder) Node(domain, op string, attrs map[string]Attr, n int, inputs ...string) []string {
	node := &Node{Name: b.Name(op), Op: op, Domain: domain, Inputs: inputs, Attrs: attrs}
	for range n {
		node.Outputs = append(node.Outputs, b.Name(op+"_out"))
	}
	b.Graph.Nodes = append(b.Graph.Nodes, node)
	return node.Outputs
}
