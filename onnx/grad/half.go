package grad

import (
	"slices"

	"galley"
	"galley/onnx"
)

// movesElements lists operators whose output has the type and elements of
// their first input, in other places.
var movesElements = []string{
	"Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Flatten",
	"Squeeze", "Unsqueeze", "Transpose", "Slice", "Expand", "Tile", "Split",
}

// widenHalfWeights makes float what is differentiated with respect to but of
// half precision: updates would round to nothing. The type reaches as far as
// elements are only moved; there a Cast to float has to stand.
func (d *differentiator) widenHalfWeights() error {
	wide := map[string]bool{}
	for _, w := range d.opts.Wrt {
		if v := d.types[w]; v.Type == onnx.Float16 || v.Type == onnx.BFloat16 {
			wide[w] = true
			d.setType(w, onnx.Float)
		}
	}
	if len(wide) == 0 {
		return nil
	}
	for _, n := range d.model.Graph.Nodes {
		for i, in := range n.Inputs {
			if !wide[in] {
				continue
			}
			if n.Op == "Cast" {
				continue
			}
			if i != 0 || standardDomain(n.Domain) != "" || !slices.Contains(movesElements, n.Op) {
				return galley.Errorf(galley.Unimplemented, nodeName(n),
					"operator %s computes in half precision with %s, which is to be trained", n.Op, in).
					WithRemedy("export the model in float, or with half-precision weights that are cast to float before use")
			}
			for _, o := range n.Outputs {
				wide[o] = true
				d.setType(o, onnx.Float)
			}
		}
	}
	for i, v := range d.model.Graph.Inputs {
		if wide[v.Name] {
			d.model.Graph.Inputs[i].Type = onnx.Float
		}
	}
	return nil
}

func (d *differentiator) setType(value string, t onnx.DataType) {
	v := d.types[value]
	v.Name, v.Type = value, t
	d.types[value] = v
}
