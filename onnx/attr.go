package onnx

// An AttrRef is, in a function's body, an attribute whose value is the
// attribute Name of the function's caller.
type AttrRef struct {
	Name string
	Kind string // what it refers to: "int", "float", "string", "ints", ...
}

// AttrInt returns an integer attribute, or otherwise def.
func (n *Node) AttrInt(name string, def int64) int64 {
	if v, ok := n.Attrs[name].(int64); ok {
		return v
	}
	return def
}

// AttrFloat returns a float attribute, or otherwise def.
func (n *Node) AttrFloat(name string, def float32) float32 {
	if v, ok := n.Attrs[name].(float32); ok {
		return v
	}
	return def
}

// AttrString returns a string attribute, or otherwise def.
func (n *Node) AttrString(name, def string) string {
	if v, ok := n.Attrs[name].(string); ok {
		return v
	}
	return def
}

// AttrInts returns an integer list attribute and whether the node has it.
func (n *Node) AttrInts(name string) ([]int64, bool) {
	v, ok := n.Attrs[name].([]int64)
	return v, ok
}

// Input returns the name of input i, or "" if it is omitted.
func (n *Node) Input(i int) string {
	if i < len(n.Inputs) {
		return n.Inputs[i]
	}
	return ""
}

// Output returns the name of output i, or "" if it is omitted.
func (n *Node) Output(i int) string {
	if i < len(n.Outputs) {
		return n.Outputs[i]
	}
	return ""
}

// Graphs returns the node's subgraphs (the branches of If, the body of Loop
// and Scan) by attribute name.
func (n *Node) Graphs() map[string][]*Graph {
	var out map[string][]*Graph
	add := func(name string, g ...*Graph) {
		if out == nil {
			out = map[string][]*Graph{}
		}
		out[name] = g
	}
	for name, a := range n.Attrs {
		switch a := a.(type) {
		case *Graph:
			add(name, a)
		case []*Graph:
			add(name, a...)
		}
	}
	return out
}

// label names a node in messages: its name and operator, or its operator and
// first output.
func (n *Node) label() string {
	if n.Name != "" {
		return "node " + quote(n.Name) + " (" + n.opName() + ")"
	}
	if out := n.Output(0); out != "" {
		return "node " + n.opName() + " -> " + quote(out)
	}
	return "node " + n.opName()
}

func (n *Node) opName() string {
	if n.Domain == "" {
		return printable(n.Op)
	}
	return printable(n.Domain + "." + n.Op)
}
