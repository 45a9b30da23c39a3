package onnx

// Types holds what InferShapes found out about the values of a graph: their
// element types and shapes, and the contents of small integer values.
type Types struct {
	values map[string]*inferred
	order  []string // in order of definition
	outer  *Types   // the values of the graph around a subgraph
}

// inferred is what is known about a value.
type inferred struct {
	Value
	elems []elem  // contents of a small integer or boolean scalar or vector; nil if not followed
	from  *Tensor // the constant it is, or nil
	lazy  bool    // elems are still to be read from the constant
}

// Lookup returns the type and shape of a value, and whether the value exists.
// What is unknown in it is Undefined or nil.
func (t *Types) Lookup(name string) (Value, bool) {
	v, ok := t.values[name]
	if !ok {
		return Value{Name: name}, false
	}
	return v.Value, true
}

// Shape returns a value's shape, nil if its rank is unknown.
func (t *Types) Shape(name string) Shape {
	v, _ := t.Lookup(name)
	return v.Shape
}

// Type returns a value's element type, Undefined if it is unknown.
func (t *Types) Type(name string) DataType {
	v, _ := t.Lookup(name)
	return v.Type
}

// Rank returns a value's number of dimensions, or -1 if it is unknown.
func (t *Types) Rank(name string) int {
	if s := t.Shape(name); s != nil {
		return len(s)
	}
	return -1
}

// Constant returns the contents of a value that does not depend on the
// graph's inputs, if they are known: an initializer, a Constant, or small
// integers computed from constants and fixed dimensions.
func (t *Types) Constant(name string) (*Tensor, bool) {
	v, ok := t.values[name]
	if !ok {
		return nil, false
	}
	if v.from != nil {
		return v.from, true
	}
	return elemsTensor(v)
}

// Values lists all values with a name in order of definition: inputs,
// initializers, then node outputs.
func (t *Types) Values() []Value {
	out := make([]Value, 0, len(t.order))
	for _, name := range t.order {
		out = append(out, t.values[name].Value)
	}
	return out
}

// find looks a value up here and in the graphs around; nil if there is none.
func (t *Types) find(name string) *inferred {
	for ; t != nil; t = t.outer {
		if v, ok := t.values[name]; ok {
			return v
		}
	}
	return nil
}

func (t *Types) define(v *inferred) {
	if _, ok := t.values[v.Name]; !ok {
		t.order = append(t.order, v.Name)
	}
	t.values[v.Name] = v
}
