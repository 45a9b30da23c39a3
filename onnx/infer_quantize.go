package onnx

// quantizeRules are the operators on quantised values.
var quantizeRules = ruleSet{
	std("QuantizeLinear"):        inferQuantize,
	std("DequantizeLinear"):      inferDequantize,
	std("DynamicQuantizeLinear"): inferDynamicQuantize,
	std("QLinearMatMul"):         inferQLinearMatMul,
}

func inferQuantize(c *inferContext) error {
	t := c.inType(2)
	switch {
	case c.has(2):
	case c.AttrInt("output_dtype", 0) != 0:
		t = DataType(c.AttrInt("output_dtype", 0))
	default:
		t = Uint8
	}
	c.set(0, t, c.inShape(0))
	return nil
}

func inferDequantize(c *inferContext) error {
	t := c.inType(1)
	if d := DataType(c.AttrInt("output_dtype", 0)); d != Undefined {
		t = d
	}
	c.set(0, t, c.inShape(0))
	return nil
}

func inferDynamicQuantize(c *inferContext) error {
	c.set(0, Uint8, c.inShape(0))
	c.set(1, Float, Shape{})
	c.set(2, Uint8, Shape{})
	return nil
}

// inferQLinearMatMul has inputs a, its scale and zero point, b, its scale and
// zero point, and the result's scale and zero point.
func inferQLinearMatMul(c *inferContext) error {
	s, err := matMulShape(c.inShape(0), c.inShape(3))
	if err != nil {
		return err
	}
	c.set(0, c.inType(7), s)
	return nil
}
