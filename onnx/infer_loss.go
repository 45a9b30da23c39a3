package onnx

import (
	"fmt"
	"slices"
)

// lossRules are the losses over class scores [N, C, d1, ...] and labels
// [N, d1, ...].
var lossRules = ruleSet{
	std("SoftmaxCrossEntropyLoss"):   inferLoss,
	std("NegativeLogLikelihoodLoss"): inferLoss,
}

func inferLoss(c *inferContext) error {
	scores, labels := c.inShape(0), c.inShape(1)
	if scores != nil && len(scores) < 2 {
		return fmt.Errorf("scores %v have no class axis", scores)
	}
	if scores != nil && labels != nil {
		want := slices.Delete(slices.Clone(scores), 1, 2)
		merged, ok := mergeShapes(want, labels)
		if !ok {
			return fmt.Errorf("labels %v do not fit scores %v", labels, scores)
		}
		labels = merged
	}
	if w := c.inShape(2); w != nil && scores != nil {
		if len(w) != 1 {
			return fmt.Errorf("class weights %v are no vector", w)
		}
		if _, ok := mergeDims(w[0], scores[1]); !ok {
			return fmt.Errorf("class weights %v do not fit scores %v", w, scores)
		}
	}
	if c.AttrString("reduction", "mean") == "none" {
		c.set(0, c.inType(0), labels)
	} else {
		c.set(0, c.inType(0), Shape{})
	}
	c.set(1, c.inType(0), scores)
	return nil
}
