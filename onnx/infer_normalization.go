package onnx

import "fmt"

// normalizationRules are the normalisations; all keep the shape of input 0.
var normalizationRules = ruleSet{
	std("LayerNormalization"):        inferLayerNormalization,
	std("RMSNormalization"):          inferAxisUnary,
	std("BatchNormalization"):        inferBatchNormalization,
	std("InstanceNormalization"):     inferUnary,
	std("GroupNormalization"):        inferUnary,
	std("LpNormalization"):           inferAxisUnary,
	std("MeanVarianceNormalization"): inferUnary,
	std("LRN"):                       inferUnary,
	ms("SkipLayerNormalization"):     inferUnary,
}

// inferLayerNormalization also gives the mean and the inverse deviation,
// whose normalised axes have size 1.
func inferLayerNormalization(c *inferContext) error {
	s := c.inShape(0)
	c.set(0, c.inType(0), s)
	stash := DataType(c.AttrInt("stash_type", int64(Float)))
	if s == nil {
		c.set(1, stash, nil)
		c.set(2, stash, nil)
		return nil
	}
	axis, err := normalAxis(c.AttrInt("axis", -1), len(s))
	if err != nil {
		return fmt.Errorf("%w: input shape %v", err, s)
	}
	for i := 1; i <= 2; i++ {
		if w := c.inShape(i); w != nil {
			if b, err := broadcast(s, w); err != nil || len(b) != len(s) {
				return fmt.Errorf("input %d of shape %v does not broadcast to %v", i, w, s)
			}
		}
	}
	drop := make([]bool, len(s))
	for i := axis; i < len(s); i++ {
		drop[i] = true
	}
	stat := dropAxes(s, drop, true)
	c.set(1, stash, stat)
	c.set(2, stash, stat)
	return nil
}

func inferBatchNormalization(c *inferContext) error {
	x := c.inShape(0)
	c.set(0, c.inType(0), x)
	channels := unknownDim
	if len(x) > 1 {
		channels = x[1]
	}
	for i := 1; i <= 4; i++ {
		s := c.inShape(i)
		if s == nil {
			continue
		}
		d, ok := unknownDim, len(s) == 1
		if ok {
			d, ok = mergeDims(channels, s[0])
		}
		if !ok {
			return fmt.Errorf("input %d of shape %v does not fit the channels of %v", i, s, x)
		}
		channels = d
	}
	for i := 1; i < len(c.outs); i++ {
		c.set(i, c.inType(3), Shape{channels})
	}
	return nil
}
