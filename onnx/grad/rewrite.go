package grad

import (
	"math"
	"slices"

	"galley/onnx"
)

// rewriteForward gives the forward graph the forms that are fast to run and
// to differentiate when both happen in one graph, where the runtime cannot
// fuse what the backward reads: GELU as one node, and products that take the
// transposition of their second operand and their scale upon themselves.
func (d *differentiator) rewriteForward() {
	r := &rewriter{d: d, consumers: map[string]int{}}
	g := d.model.Graph
	for _, n := range g.Nodes {
		for _, in := range n.Inputs {
			r.consumers[in]++
		}
		if len(n.Graphs()) > 0 {
			return // what a subgraph captures is not counted
		}
	}
	for _, o := range g.Outputs {
		r.consumers[o.Name]++
	}
	for _, o := range append([]string{d.opts.Loss}, d.opts.Outputs...) {
		r.consumers[o]++
	}
	r.producers = g.Producers()
	for _, n := range slices.Clone(g.Nodes) {
		r.gelu(n)
	}
	for _, n := range slices.Clone(g.Nodes) {
		r.transposedOperand(n)
	}
	for _, n := range slices.Clone(g.Nodes) {
		r.scaledOperand(n)
		r.scaledProduct(n)
	}
}

type rewriter struct {
	d         *differentiator
	producers map[string]*onnx.Node
	consumers map[string]int
}

// inner returns the standard node of the given operator that alone is read
// through value, which nothing else needs.
func (r *rewriter) inner(value, op string) *onnx.Node {
	n := r.producers[value]
	if n == nil || n.Op != op || standardDomain(n.Domain) != "" || r.consumers[value] != 1 {
		return nil
	}
	return n
}

// isFloat reports whether value has type Float: com.microsoft's kernels exist
// for no other.
func (r *rewriter) isFloat(value string) bool { return r.d.types[value].Type == onnx.Float }

// scalarOperand splits the inputs of a two-operand node into a constant
// scalar and the other.
func (r *rewriter) scalarOperand(n *onnx.Node) (other string, scalar float64, ok bool) {
	for i := range 2 {
		if shape := r.d.types[n.Input(i)].Shape; shape == nil || len(shape) != 0 {
			continue
		}
		if v, known := r.d.scalar(n.Input(i)); known {
			return n.Input(1 - i), v, true
		}
	}
	return "", 0, false
}

// about compares constants that exporters write with few digits.
func about(a, b float64) bool { return math.Abs(a-b) <= 1e-5*math.Abs(b) }

// gelu recognises x * (1 + erf(x/sqrt 2)) * 0.5 as exporters write it out.
func (r *rewriter) gelu(n *onnx.Node) {
	if n.Op != "Mul" || !r.isFloat(n.Output(0)) {
		return
	}
	twice, half, ok := r.scalarOperand(n)
	product := r.inner(twice, "Mul")
	if !ok || !about(half, 0.5) || product == nil {
		return
	}
	for i := range 2 {
		x, sum := product.Input(i), r.inner(product.Input(1-i), "Add")
		if sum == nil {
			continue
		}
		erfValue, one, ok := r.scalarOperand(sum)
		erf := r.inner(erfValue, "Erf")
		if !ok || !about(one, 1) || erf == nil {
			continue
		}
		if div := r.inner(erf.Input(0), "Div"); div != nil && div.Inputs[0] == x {
			if _, root, ok := r.scalarOperand(div); ok && about(root, math.Sqrt2) {
				r.become(n, microsoft, "Gelu", nil, x)
				return
			}
		}
		if mul := r.inner(erf.Input(0), "Mul"); mul != nil {
			if from, root, ok := r.scalarOperand(mul); ok && from == x && about(root, math.Sqrt2/2) {
				r.become(n, microsoft, "Gelu", nil, x)
				return
			}
		}
	}
}

// become turns n into another node with the same output. What it read before
// is left to be removed if nothing else reads it.
func (r *rewriter) become(n *onnx.Node, domain, op string, attrs map[string]onnx.Attr, inputs ...string) {
	for _, in := range n.Inputs {
		r.consumers[in]--
	}
	for _, in := range inputs {
		r.consumers[in]++
	}
	n.Domain, n.Op, n.Attrs, n.Inputs = domain, op, attrs, inputs
}

// product returns what a MatMul or FusedMatMul node computes.
func (r *rewriter) product(n *onnx.Node) (product, bool) {
	switch {
	case n.Op == "MatMul" && standardDomain(n.Domain) == "" && r.isFloat(n.Output(0)):
		if len(r.d.types[n.Input(0)].Shape) < 2 || len(r.d.types[n.Input(1)].Shape) < 2 {
			return product{}, false
		}
		return product{alpha: 1}, true
	case n.Op == "FusedMatMul" && n.Domain == microsoft && len(n.Inputs) == 2 && n.AttrInt("transBatchA", 0) == 0 && n.AttrInt("transBatchB", 0) == 0:
		return product{n.AttrInt("transA", 0) != 0, n.AttrInt("transB", 0) != 0, n.AttrFloat("alpha", 1)}, true
	}
	return product{}, false
}

// transposedOperand lets a product transpose the last two dimensions of its
// second operand itself. Other dimensions are still moved before, but with
// whole rows: attention's keys [B,S,heads,d] -> [B,heads,d,S].
func (r *rewriter) transposedOperand(n *onnx.Node) {
	p, ok := r.product(n)
	if !ok {
		return
	}
	transpose := r.inner(n.Input(1), "Transpose")
	if transpose == nil {
		return
	}
	perm, ok := transpose.AttrInts("perm")
	if last := int64(len(perm) - 1); !ok || last < 1 || perm[last-1] != last {
		return
	}
	rows := slices.Clone(perm)
	rows[len(rows)-2], rows[len(rows)-1] = rows[len(rows)-1], rows[len(rows)-2]
	p.transB = !p.transB
	operand := n.Input(1)
	if slices.IsSorted(rows) {
		r.become(n, microsoft, "FusedMatMul", p.attrs(), n.Input(0), transpose.Input(0))
		return
	}
	transpose.Attrs = map[string]onnx.Attr{"perm": rows}
	v := r.d.types[operand]
	if len(v.Shape) == len(perm) {
		s := slices.Clone(v.Shape)
		s[len(s)-2], s[len(s)-1] = s[len(s)-1], s[len(s)-2]
		v.Shape = s
		r.d.types[operand] = v
	}
	r.become(n, microsoft, "FusedMatMul", p.attrs(), n.Inputs...)
}

// scaledOperand takes the scale of an operand into the product.
func (r *rewriter) scaledOperand(n *onnx.Node) {
	for i := range 2 {
		p, ok := r.product(n)
		if !ok {
			return
		}
		mul := r.inner(n.Input(i), "Mul")
		if mul == nil {
			continue
		}
		if x, scale, ok := r.scalarOperand(mul); ok {
			p.alpha *= float32(scale)
			inputs := slices.Clone(n.Inputs)
			inputs[i] = x
			r.become(n, microsoft, "FusedMatMul", p.attrs(), inputs...)
		}
	}
}

// scaledProduct turns a product that is multiplied or divided by a constant
// into one product.
func (r *rewriter) scaledProduct(n *onnx.Node) {
	if standardDomain(n.Domain) != "" || n.Op != "Mul" && n.Op != "Div" {
		return
	}
	x, scale, ok := r.scalarOperand(n)
	if !ok || r.consumers[x] != 1 || r.producers[x] == nil {
		return
	}
	inner := r.producers[x]
	p, ok := r.product(inner)
	if !ok {
		return
	}
	if n.Op == "Div" {
		if n.Input(0) != x || scale == 0 {
			return
		}
		scale = 1 / scale
	}
	p.alpha *= float32(scale)
	r.become(n, microsoft, "FusedMatMul", p.attrs(), inner.Inputs...)
}
