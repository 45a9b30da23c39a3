package onnx

// recurrentRules are the recurrent layers.
var recurrentRules = onEach(inferRecurrent, std("LSTM"), std("GRU"), std("RNN"))

// inferRecurrent gives Y [seq, directions, batch, hidden] and the last
// states [directions, batch, hidden]; layout 1 puts the batch first.
func inferRecurrent(c *inferContext) error {
	seq, batch := unknownDim, unknownDim
	first := c.AttrInt("layout", 0) != 0
	if x := c.inShape(0); len(x) == 3 {
		seq, batch = x[0], x[1]
		if first {
			batch, seq = x[0], x[1]
		}
	}
	directions := Dim{Size: 1}
	if c.AttrString("direction", "forward") == "bidirectional" {
		directions.Size = 2
	}
	hidden := unknownDim
	if h := c.AttrInt("hidden_size", -1); h >= 0 {
		hidden.Size = h
	} else if r := c.inShape(2); len(r) == 3 {
		hidden = r[2]
	}
	y, state := Shape{seq, directions, batch, hidden}, Shape{directions, batch, hidden}
	if first {
		y, state = Shape{batch, seq, directions, hidden}, Shape{batch, directions, hidden}
	}
	c.set(0, c.inType(0), y)
	c.set(1, c.inType(0), state)
	c.set(2, c.inType(0), state)
	return nil
}
