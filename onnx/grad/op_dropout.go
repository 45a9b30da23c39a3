package grad

import "galley/onnx"

func init() { Register("", "Dropout", dropoutGrad) }

// Dropout does nothing unless training_mode is true; then the gradient goes
// where the mask let values pass.
func dropoutGrad(c *Context, dy []string) ([]string, error) {
	training := false
	if mode := c.In(2); mode != "" {
		t, ok := c.d.constant(mode)
		if !ok || len(t.Data) != 1 {
			return nil, c.Errorf("training_mode is computed in the graph; only constants are understood")
		}
		training = t.Data[0] != 0
	}
	if !training {
		return dy[:1], nil
	}
	ratio := 0.5
	if in := c.In(1); in != "" {
		r, ok := c.ConstFloat(in)
		if !ok || r < 0 || r >= 1 {
			return nil, c.Errorf("its ratio is no constant in [0, 1)")
		}
		ratio = r
	}
	mask := c.OpAttrs("Cast", map[string]onnx.Attr{"to": int64(c.elementType())}, c.WantOut(1))
	return []string{c.Op("Mul", c.Op("Mul", dy[0], c.Scalar(1/(1-ratio))), mask)}, nil
}
