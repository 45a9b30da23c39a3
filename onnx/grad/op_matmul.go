package grad

import (
	"slices"

	"galley/onnx"
)

func init() {
	Register("", "MatMul", matMulGrad)
	Register("", "Gemm", gemmGrad)
	Register(microsoft, "FusedMatMul", fusedMatMulGrad)
}

// A product is y = alpha * op(A) @ op(B), where op transposes the last two
// dimensions or does nothing.
type product struct {
	transA, transB bool
	alpha          float32
}

func matMulGrad(c *Context, dy []string) ([]string, error) {
	return c.productGrad(product{alpha: 1}, dy[0])
}

func fusedMatMulGrad(c *Context, dy []string) ([]string, error) {
	n := c.Node
	if n.AttrInt("transBatchA", 0) != 0 || n.AttrInt("transBatchB", 0) != 0 {
		return nil, c.Errorf("transBatchA and transBatchB are not understood")
	}
	return c.productGrad(product{
		transA: n.AttrInt("transA", 0) != 0,
		transB: n.AttrInt("transB", 0) != 0,
		alpha:  n.AttrFloat("alpha", 1),
	}, dy[0])
}

// productGrad differentiates a product of any ranks.
func (c *Context) productGrad(p product, dy string) ([]string, error) {
	a, b := c.In(0), c.In(1)
	rankA, err := c.Rank(a)
	if err != nil {
		return nil, err
	}
	rankB, err := c.Rank(b)
	if err != nil {
		return nil, err
	}
	switch {
	case rankA == 1 || rankB == 1:
		return c.vectorProductGrad(p, dy, rankA, rankB)
	case rankB == 2 && !p.transA:
		if dx, ok := c.linearGrad(p, dy); ok {
			return dx, nil
		}
	}
	return c.batchedProductGrad(p, dy), nil
}

// linearGrad is the gradient of rows times one matrix: all leading dimensions
// of A are taken together, and both gradients are one Gemm. It needs the
// fixed sizes of the matrix.
func (c *Context) linearGrad(p product, dy string) ([]string, bool) {
	a, b := c.In(0), c.In(1)
	matrix := c.Shape(b)
	if !matrix.Known() || matrix[0].Size == 0 || matrix[1].Size == 0 {
		return nil, false
	}
	inner, columns := matrix[0].Size, matrix[1].Size
	if p.transB {
		inner, columns = columns, inner
	}
	rows := c.flatten2D(dy, c.Out(0), columns)
	dx := make([]string, 2)
	if c.Needs(0) {
		dx[0] = c.gemm(rows, b, product{transB: !p.transB, alpha: p.alpha})
		if len(c.Shape(a)) != 2 {
			dx[0] = c.ReshapeTo(dx[0], a)
		}
	}
	if c.Needs(1) {
		x := c.flatten2D(a, a, inner)
		if p.transB {
			dx[1] = c.gemm(rows, x, product{transA: true, alpha: p.alpha})
		} else {
			dx[1] = c.gemm(x, rows, product{transA: true, alpha: p.alpha})
		}
	}
	return dx, true
}

// batchedProductGrad is the gradient of matrices times matrices with
// broadcast leading dimensions.
func (c *Context) batchedProductGrad(p product, dy string) []string {
	a, b := c.In(0), c.In(1)
	var batch onnx.Shape
	if y := c.Shape(c.Out(0)); len(y) >= 2 {
		batch = y[:len(y)-2]
	}
	dx := make([]string, 2)
	if c.Needs(0) {
		var g string
		if p.transA {
			g = c.matMul(b, dy, product{transA: p.transB, transB: true, alpha: p.alpha})
		} else {
			g = c.matMul(dy, b, product{transB: !p.transB, alpha: p.alpha})
		}
		dx[0] = c.sumToShape(g, broadcastShape(batch, c.Shape(a)), a)
	}
	if c.Needs(1) {
		var g string
		if p.transB {
			g = c.matMul(dy, a, product{transA: true, transB: p.transA, alpha: p.alpha})
		} else {
			g = c.matMul(a, dy, product{transA: !p.transA, alpha: p.alpha})
		}
		dx[1] = c.sumToShape(g, broadcastShape(batch, c.Shape(b)), b)
	}
	return dx
}

// broadcastShape is the shape of an operand's gradient before it is summed:
// the batch of the product, then the operand's own matrix.
func broadcastShape(batch, operand onnx.Shape) onnx.Shape {
	return append(slices.Clone(batch), operand[len(operand)-2:]...)
}

// vectorProductGrad handles operands of rank 1: A is then a row, B a column.
func (c *Context) vectorProductGrad(p product, dy string, rankA, rankB int) ([]string, error) {
	a, b := c.In(0), c.In(1)
	shapeA, shapeB := c.Shape(a), c.Shape(b)
	batch := c.Shape(c.Out(0))
	if rankB == 1 {
		dy = c.Op("Unsqueeze", dy, c.Ints(-1))
		b = c.Op("Unsqueeze", b, c.Ints(1))
		shapeB = onnx.Shape{shapeB[0], {Size: 1}}
		p.transB = false
	} else {
		batch = dropLast(batch)
	}
	if rankA == 1 {
		dy = c.Op("Unsqueeze", dy, c.Ints(-2))
		a = c.Op("Unsqueeze", a, c.Ints(0))
		shapeA = onnx.Shape{{Size: 1}, shapeA[0]}
		p.transA = false
	} else {
		batch = dropLast(batch)
	}
	if p.transA || p.transB {
		return nil, c.Errorf("a transposed operand beside a vector is not understood")
	}
	dx := make([]string, 2)
	if c.Needs(0) {
		g := c.matMul(dy, b, product{transB: true, alpha: p.alpha})
		dx[0] = c.sumVector(g, broadcastShape(batch, shapeA), c.In(0), rankA, -2)
	}
	if c.Needs(1) {
		g := c.matMul(a, dy, product{transA: true, alpha: p.alpha})
		dx[1] = c.sumVector(g, broadcastShape(batch, shapeB), c.In(1), rankB, -1)
	}
	return dx, nil
}

// sumVector sums the gradient g of an operand to its shape; a vector was
// extended by the axis unit, which is dropped first.
func (c *Context) sumVector(g string, shape onnx.Shape, operand string, rank int, unit int) string {
	if rank == 1 {
		g = c.Op("Squeeze", g, c.Ints(int64(unit)))
		at := len(shape) + unit
		shape = slices.Delete(slices.Clone(shape), at, at+1)
	}
	return c.sumToShape(g, shape, operand)
}

func dropLast(s onnx.Shape) onnx.Shape {
	if len(s) == 0 {
		return s
	}
	return s[:len(s)-1]
}

// Y = alpha*op(A)op(B) + beta*C
func gemmGrad(c *Context, dy []string) ([]string, error) {
	n := c.Node
	a, b := c.In(0), c.In(1)
	transA, transB := n.AttrInt("transA", 0) != 0, n.AttrInt("transB", 0) != 0
	alpha := n.AttrFloat("alpha", 1)
	dx := make([]string, 3)
	if c.Needs(0) {
		if transA {
			dx[0] = c.gemm(b, dy[0], product{transA: transB, transB: true, alpha: alpha})
		} else {
			dx[0] = c.gemm(dy[0], b, product{transB: !transB, alpha: alpha})
		}
	}
	if c.Needs(1) {
		if transB {
			dx[1] = c.gemm(dy[0], a, product{transA: true, transB: transA, alpha: alpha})
		} else {
			dx[1] = c.gemm(a, dy[0], product{transA: !transA, alpha: alpha})
		}
	}
	if c.Needs(2) {
		g := c.SumTo(dy[0], c.Out(0), c.In(2))
		if beta := n.AttrFloat("beta", 1); beta != 1 {
			g = c.Op("Mul", g, c.Scalar(float64(beta)))
		}
		dx[2] = g
	}
	return dx, nil
}

// gemm multiplies two matrices.
func (c *Context) gemm(a, b string, p product) string {
	if !p.transA && !p.transB && p.alpha == 1 {
		return c.Op("MatMul", a, b)
	}
	return c.OpAttrs("Gemm", p.attrs(), a, b)
}

// matMul multiplies matrices with leading dimensions. FusedMatMul exists for
// Float only.
func (c *Context) matMul(a, b string, p product) string {
	if !p.transA && !p.transB && p.alpha == 1 {
		return c.Op("MatMul", a, b)
	}
	if c.elementType() == onnx.Float {
		return c.Builder.Node(microsoft, "FusedMatMul", p.attrs(), 1, a, b)[0]
	}
	if p.transA {
		a = c.swapLast(a)
	}
	if p.transB {
		b = c.swapLast(b)
	}
	y := c.Op("MatMul", a, b)
	if p.alpha != 1 {
		y = c.Op("Mul", y, c.Scalar(float64(p.alpha)))
	}
	return y
}

// swapLast transposes the last two dimensions of a value of unknown rank: by
// Einsum, whose ellipsis stands for the rest.
func (c *Context) swapLast(x string) string {
	return c.OpAttrs("Einsum", map[string]onnx.Attr{"equation": "...ij->...ji"}, x)
}

func (p product) attrs() map[string]onnx.Attr {
	attrs := map[string]onnx.Attr{}
	if p.transA {
		attrs["transA"] = int64(1)
	}
	if p.transB {
		attrs["transB"] = int64(1)
	}
	if p.alpha != 1 {
		attrs["alpha"] = p.alpha
	}
	return attrs
}
