package onnx

import (
	"cmp"
	"maps"
	"slices"
)

// Check holds a model to the invariants that passes and runtimes rely on:
//
//   - each value of a graph is written once, under a name that is not used
//     in the graphs around it either;
//   - nodes come after the nodes they read from, and read only values that
//     exist;
//   - outputs exist, input and output types are element types;
//   - each used domain has an operator set, and attributes have known kinds;
//   - tensors have as many bytes as their dimensions and type say, and no
//     dimension is negative or out of bounds.
//
// The first violation is returned as a *galley.Error that names the node, the
// tensor or the value.
func Check(m *Model) error {
	if m.Graph == nil {
		return invalid("model", "has no graph")
	}
	c := &checker{opsets: m.Opsets, functions: map[functionKey]bool{}}
	for _, f := range m.Functions {
		key := functionKey{f.Domain, f.Name, f.Overload}
		if c.functions[key] {
			return invalid("function "+quote(f.Name), "is defined twice")
		}
		c.functions[key] = true
	}
	for _, f := range m.Functions {
		if err := c.function(f); err != nil {
			return err
		}
	}
	return c.graph(m.Graph, nil, 0)
}

type functionKey struct{ domain, name, overload string }

type checker struct {
	opsets     map[string]int64
	functions  map[functionKey]bool
	inFunction bool
}

// names are the values visible in a graph: its own and those around it.
type names struct {
	own   map[string]bool
	outer *names
}

func (n *names) has(name string) bool {
	for ; n != nil; n = n.outer {
		if n.own[name] {
			return true
		}
	}
	return false
}

func (c *checker) graph(g *Graph, outer *names, depth int) error {
	where := "graph " + quote(g.Name)
	if depth > maxGraphDepth {
		return invalid(where, "subgraphs nest deeper than %d", maxGraphDepth)
	}
	scope := &names{own: make(map[string]bool, len(g.Inputs)+len(g.Initializers)+len(g.Nodes)), outer: outer}
	for _, v := range g.Inputs {
		if err := c.value("input", v); err != nil {
			return err
		}
		if scope.has(v.Name) {
			return invalid("input "+quote(v.Name), "its name is taken")
		}
		scope.own[v.Name] = true
	}
	for _, t := range g.Initializers {
		if t.Name == "" {
			return invalid(where, "has an initializer without a name")
		}
		if scope.has(t.Name) {
			return invalid("initializer "+quote(t.Name), "its name is taken")
		}
		scope.own[t.Name] = true
		if err := t.check(); err != nil {
			return err
		}
	}
	if err := c.nodes(g.Nodes, scope, depth); err != nil {
		return err
	}
	seen := make(map[string]bool, len(g.Outputs))
	for _, v := range g.Outputs {
		if err := c.value("output", v); err != nil {
			return err
		}
		if seen[v.Name] {
			return invalid("output "+quote(v.Name), "is listed twice")
		}
		seen[v.Name] = true
		if !scope.has(v.Name) {
			return invalid("output "+quote(v.Name), "no node, input or initializer gives it")
		}
	}
	for _, v := range g.Values {
		if err := c.value("value", v); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) function(f *Function) error {
	inner := &checker{opsets: f.Opsets, functions: c.functions, inFunction: true}
	where := "function " + quote(f.Name)
	if f.Name == "" {
		return invalid(where, "has no name")
	}
	scope := &names{own: map[string]bool{}}
	for _, name := range f.Inputs {
		if scope.own[name] {
			return invalid(where, "input %s is listed twice", quote(name))
		}
		scope.own[name] = true
	}
	for _, name := range sortedKeys(f.Defaults) {
		if err := inner.attr(where, name, f.Defaults[name], nil, 0); err != nil {
			return err
		}
	}
	if err := inner.nodes(f.Nodes, scope, 0); err != nil {
		return err
	}
	for _, name := range f.Outputs {
		if !scope.own[name] {
			return invalid(where, "nothing gives its output %s", quote(name))
		}
	}
	return nil
}

func (c *checker) nodes(nodes []*Node, scope *names, depth int) error {
	for _, n := range nodes {
		if err := c.node(n, scope, depth); err != nil {
			return cmp.Or(orderError(n, nodes, scope), err)
		}
	}
	return nil
}

func (c *checker) node(n *Node, scope *names, depth int) error {
	if n.Op == "" {
		return invalid(n.label(), "has no operator")
	}
	if _, ok := c.opsets[n.Domain]; !ok {
		return invalid(n.label(), "domain %s has no operator set; the model imports %s", domainName(n.Domain), opsetList(c.opsets))
	}
	for _, in := range n.Inputs {
		if in != "" && !scope.has(in) {
			return invalid(n.label(), "input %s does not exist", quote(in))
		}
	}
	for _, name := range sortedKeys(n.Attrs) {
		if err := c.attr(n.label(), name, n.Attrs[name], scope, depth); err != nil {
			return err
		}
	}
	for _, out := range n.Outputs {
		if out == "" {
			continue
		}
		if scope.has(out) {
			return invalid(n.label(), "output %s is written a second time", quote(out))
		}
		scope.own[out] = true
	}
	return nil
}

func (c *checker) attr(where, name string, a Attr, scope *names, depth int) error {
	if name == "" {
		return invalid(where, "has an attribute without a name")
	}
	switch a := a.(type) {
	case int64, float32, string, []int64, []float32, []string:
		return nil
	case *Tensor:
		return a.checkIn(where, name)
	case []*Tensor:
		for _, t := range a {
			if err := t.checkIn(where, name); err != nil {
				return err
			}
		}
		return nil
	case *Graph:
		return c.subgraph(where, name, a, scope, depth)
	case []*Graph:
		for _, g := range a {
			if err := c.subgraph(where, name, g, scope, depth); err != nil {
				return err
			}
		}
		return nil
	case AttrRef:
		if !c.inFunction {
			return invalid(where, "attribute %s refers to %s outside of a function", quote(name), quote(a.Name))
		}
		return nil
	default:
		return invalid(where, "attribute %s has the Go type %T, which is no attribute's", quote(name), a)
	}
}

func (c *checker) subgraph(where, name string, g *Graph, scope *names, depth int) error {
	if g == nil {
		return invalid(where, "attribute %s is an empty graph", quote(name))
	}
	return c.graph(g, scope, depth+1)
}

// value checks a declared type; a shape is bounded in rank and size.
func (c *checker) value(kind string, v Value) error {
	where := kind + " " + quote(v.Name)
	if v.Name == "" {
		return invalid("graph", "has an %s without a name", kind)
	}
	if v.Type != Undefined && !v.Type.Valid() {
		return invalid(where, "has the unknown element type %d", int32(v.Type))
	}
	if len(v.Shape) > maxRank {
		return invalid(where, "has %d dimensions, more than %d", len(v.Shape), maxRank)
	}
	size := int64(1)
	for _, d := range v.Shape {
		if d.Size < 0 {
			continue
		}
		var ok bool
		if size, ok = mulOverflow(size, d.Size); !ok {
			return invalid(where, "shape %v overflows", v.Shape)
		}
	}
	return nil
}

// check holds a tensor to its type and dimensions.
func (t *Tensor) check() error {
	where := "tensor " + quote(t.Name)
	if !t.Type.Valid() {
		return invalid(where, "has the unknown element type %d", int32(t.Type))
	}
	if len(t.Dims) > maxRank {
		return invalid(where, "has %d dimensions, more than %d", len(t.Dims), maxRank)
	}
	for _, d := range t.Dims {
		if d < 0 {
			return invalid(where, "has the negative dimension %d", d)
		}
	}
	n, ok := t.elements()
	if ok {
		_, ok = mulOverflow(n, max(t.Type.Bits(), 1))
	}
	if !ok {
		return invalid(where, "dimensions %v overflow", t.Dims)
	}
	if t.Type == String {
		if int64(len(t.Strings)) != n {
			return invalid(where, "has %d strings; dimensions %v ask for %d", len(t.Strings), t.Dims, n)
		}
		if len(t.Data) > 0 {
			return invalid(where, "holds strings and bytes")
		}
		return nil
	}
	if want := t.Type.bytesFor(n); int64(len(t.Data)) != want {
		return invalid(where, "has %d bytes; %v of dimensions %v takes %d", len(t.Data), t.Type, t.Dims, want)
	}
	return nil
}

func (t *Tensor) checkIn(where, attr string) error {
	if t == nil {
		return invalid(where, "attribute %s is an empty tensor", quote(attr))
	}
	if err := t.check(); err != nil {
		return invalid(where, "attribute %s: %w", quote(attr), err)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
