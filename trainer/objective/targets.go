package objective

import (
	"slices"

	"galley"
	"galley/trainer"
)

// Classes says how labels become targets: C classes with smoothing and a
// weight each, as torch.nn.CrossEntropyLoss(weight, label_smoothing) defines
// them.
type Classes struct {
	Weights   []float64 // one a class
	Smoothing float64
}

// NewClasses takes the recipe's class weights for labels whose training rows
// are counted by label.
func NewClasses(labels []string, counts map[string]int64, r trainer.Recipe) (Classes, error) {
	c := Classes{Weights: make([]float64, len(labels)), Smoothing: r.LabelSmoothing}
	total := int64(0)
	for _, label := range labels {
		total += counts[label]
	}
	for i, label := range labels {
		switch r.ClassWeights.Mode {
		case "balanced": // rows / (classes · rows of the class), as scikit-learn has it
			if counts[label] > 0 {
				c.Weights[i] = float64(total) / (float64(len(labels)) * float64(counts[label]))
			}
		case "given":
			w, ok := r.ClassWeights.Values[label]
			if !ok {
				return c, galley.Errorf(galley.InvalidArgument, "recipe.class_weights.values", "label %q has no weight", label).
					WithRemedy("give a weight for every label")
			}
			c.Weights[i] = w
		default:
			c.Weights[i] = 1
		}
	}
	var unknown []string
	for label := range r.ClassWeights.Values {
		if r.ClassWeights.Mode == "given" && !slices.Contains(labels, label) {
			unknown = append(unknown, label)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return c, galley.Errorf(galley.InvalidArgument, "recipe.class_weights.values", "%q is not a label of the data", unknown[0]).
			WithRemedy("remove it, or give the labels as the data has them")
	}
	return c, nil
}

// Mass is what a step's loss is divided by: the sum of its rows' weights.
func (c Classes) Mass(labels []int) float64 {
	sum := 0.0
	for _, y := range labels {
		sum += c.Weights[y]
	}
	return sum
}

// Fill writes the targets of a batch, [len(labels), classes], to dst; mass is
// that of the whole step.
func (c Classes) Fill(dst []float32, labels []int, mass float64) {
	n := len(c.Weights)
	if mass == 0 {
		mass = 1 // every row weighs nothing: so do the targets
	}
	for i, y := range labels {
		row := dst[i*n : (i+1)*n]
		for j := range row {
			row[j] = float32(c.Smoothing / float64(n) * c.Weights[j] / mass)
		}
		row[y] += float32((1 - c.Smoothing) * c.Weights[y] / mass)
	}
}
