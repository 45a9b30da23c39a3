package onnx

import (
	"fmt"
	"slices"
)

// matrixRules are the matrix products.
var matrixRules = ruleSet{
	std("MatMul"):               inferMatMul,
	std("MatMulInteger"):        inferMatMulInteger,
	ms("FusedMatMul"):           inferFusedMatMul,
	ms("DynamicQuantizeMatMul"): inferMatMul,
	ms("MatMulNBits"):           inferMatMulNBits,
	std("Gemm"):                 inferGemm,
	std("Einsum"):               inferEinsum,
}

func inferMatMul(c *inferContext) error {
	s, err := matMulShape(c.inShape(0), c.inShape(1))
	if err != nil {
		return err
	}
	c.set(0, c.inType(0), s)
	return nil
}

func inferMatMulInteger(c *inferContext) error {
	s, err := matMulShape(c.inShape(0), c.inShape(1))
	if err != nil {
		return err
	}
	c.set(0, Int32, s)
	return nil
}

// inferMatMulNBits is a product with K by N weights of few bits, whose sizes
// are attributes.
func inferMatMulNBits(c *inferContext) error {
	s, err := matMulShape(c.inShape(0), Fixed(max(c.AttrInt("K", -1), -1), max(c.AttrInt("N", -1), -1)))
	if err != nil {
		return err
	}
	c.set(0, c.inType(0), s)
	return nil
}

// inferFusedMatMul is a MatMul of inputs that may be transposed. Batch
// transposition (transBatchA, transBatchB) moves the leading dimension before
// the last one.
func inferFusedMatMul(c *inferContext) error {
	a := operand(c.inShape(0), c.AttrInt("transA", 0) != 0, c.AttrInt("transBatchA", 0) != 0)
	b := operand(c.inShape(1), c.AttrInt("transB", 0) != 0, c.AttrInt("transBatchB", 0) != 0)
	s, err := matMulShape(a, b)
	if err != nil {
		return err
	}
	c.set(0, c.inType(0), s)
	return nil
}

func operand(s Shape, trans, transBatch bool) Shape {
	n := len(s)
	if n < 2 {
		return s
	}
	s = slices.Clone(s)
	if transBatch && n > 2 {
		first := s[0]
		copy(s, s[1:n-1])
		s[n-2] = first
	}
	if trans {
		s[n-1], s[n-2] = s[n-2], s[n-1]
	}
	return s
}

// matMulShape is NumPy's: vectors are promoted, leading dimensions broadcast.
func matMulShape(a, b Shape) (Shape, error) {
	if a == nil || b == nil {
		return nil, nil
	}
	if len(a) == 0 || len(b) == 0 {
		return nil, fmt.Errorf("a scalar cannot be multiplied: %v and %v", a, b)
	}
	rowVector, columnVector := len(a) == 1, len(b) == 1
	x, y := a, b
	if rowVector {
		x = Shape{{Size: 1}, a[0]}
	}
	if columnVector {
		y = Shape{b[0], {Size: 1}}
	}
	n, m := len(x), len(y)
	if _, ok := mergeDims(x[n-1], y[m-2]); !ok {
		return nil, fmt.Errorf("inner dimensions differ: %v and %v", a, b)
	}
	lead, err := broadcast(x[:n-2], y[:m-2])
	if err != nil {
		return nil, fmt.Errorf("batch dimensions of %v and %v do not broadcast", a, b)
	}
	out := slices.Clone(lead)
	if !rowVector {
		out = append(out, x[n-2])
	}
	if !columnVector {
		out = append(out, y[m-1])
	}
	return out, nil
}

func inferGemm(c *inferContext) error {
	a, b := c.inShape(0), c.inShape(1)
	if a == nil || b == nil {
		c.set(0, c.inType(0), unknownShape(2))
		return nil
	}
	if len(a) != 2 || len(b) != 2 {
		return fmt.Errorf("takes matrices, not %v and %v", a, b)
	}
	a = operand(a, c.AttrInt("transA", 0) != 0, false)
	b = operand(b, c.AttrInt("transB", 0) != 0, false)
	if _, ok := mergeDims(a[1], b[0]); !ok {
		return fmt.Errorf("inner dimensions differ: %v and %v", a, b)
	}
	out := Shape{a[0], b[1]}
	if bias := c.inShape(2); bias != nil {
		if s, err := broadcast(out, bias); err != nil || len(s) != 2 {
			return fmt.Errorf("bias %v does not broadcast to %v", bias, out)
		}
	}
	c.set(0, c.inType(0), out)
	return nil
}

// inferEinsum follows the labels of an equation with an explicit result and
// no ellipsis; others stay unknown.
func inferEinsum(c *inferContext) error {
	eq, ok := parseEinsum(c.AttrString("equation", ""))
	if !ok {
		c.set(0, c.inType(0), nil)
		return nil
	}
	if len(eq.inputs) != len(c.Inputs) {
		return fmt.Errorf("equation has %d terms for %d inputs", len(eq.inputs), len(c.Inputs))
	}
	sizes := map[rune]Dim{}
	for i, labels := range eq.inputs {
		s := c.inShape(i)
		if s == nil {
			continue
		}
		if len(s) != len(labels) {
			return fmt.Errorf("term %s does not fit input shape %v", quote(string(labels)), s)
		}
		for j, l := range labels {
			d, seen := sizes[l]
			if !seen {
				sizes[l] = s[j]
				continue
			}
			if d, ok = broadcastDims(d, s[j]); !ok {
				return fmt.Errorf("label %q has sizes %v and %v", string(l), sizes[l], s[j])
			}
			sizes[l] = d
		}
	}
	out := make(Shape, len(eq.output))
	for i, l := range eq.output {
		d, ok := sizes[l]
		if !ok {
			d = unknownDim
		}
		out[i] = d
	}
	c.set(0, c.inType(0), out)
	return nil
}

type einsum struct {
	inputs [][]rune
	output []rune
}

// parseEinsum reads "ij,jk->ik".
func parseEinsum(equation string) (einsum, bool) {
	var eq einsum
	var term []rune
	result := false
	for i, r := range equation {
		switch {
		case r == ' ':
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
			term = append(term, r)
		case r == ',' && !result:
			eq.inputs = append(eq.inputs, term)
			term = nil
		case r == '-' && !result && i+1 < len(equation) && equation[i+1] == '>':
			eq.inputs = append(eq.inputs, term)
			term, result = nil, true
		case r == '>' && i > 0 && equation[i-1] == '-':
		default:
			return eq, false
		}
	}
	eq.output = term
	return eq, result
}
