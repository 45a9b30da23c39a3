package quantize

import (
	"encoding/binary"
	"math"
	"slices"

	"galley/onnx"
)

// leastHalf is how many elements a tensor has at least to be stored in half
// precision.
const leastHalf = 256

// greatestHalf is the greatest number of half precision.
const greatestHalf = 65504

// findWeights lists the float initializers that half precision can hold.
func findWeights(g *onnx.Graph) (sites []Site, left []Left) {
	for _, t := range g.Initializers {
		if t.Type != onnx.Float || t.Size() < leastHalf {
			continue
		}
		values, ok := t.Floats()
		if !ok {
			continue
		}
		if r, _ := rangeOf(values); r.High > greatestHalf || r.Low < -greatestHalf {
			left = append(left, Left{Name: t.Name, Op: "Weight", Why: "half precision ends at 65504"})
			continue
		}
		sites = append(sites, Site{Name: t.Name, Op: "Weight", Weight: t.Name})
	}
	return sites, left
}

// halve stores weights in half precision. Before their use they are made
// float again: as a whole, which the runtime does once when it loads the
// model, or row by row where a Gather chooses rows.
func (r *rewriter) halve(nodes []*onnx.Node) error {
	g := r.m.Graph
	tables := map[string]string{} // of Gather: the float weight -> its half
	for i, t := range g.Initializers {
		s, ok := r.sites[t.Name]
		if !ok {
			continue
		}
		values, _ := t.Floats()
		if _, ok := rangeOf(values); !ok {
			return notFinite(t.Name)
		}
		half := &onnx.Tensor{Name: r.b.Name(t.Name), Type: onnx.Float16, Dims: t.Dims, Data: make([]byte, 2*len(values))}
		for j, x := range values {
			binary.LittleEndian.PutUint16(half.Data[2*j:], toHalf(x))
		}
		g.Initializers[i] = half
		r.result.Sites = append(r.result.Sites, s)
		if r.isTable(t.Name) {
			tables[t.Name] = half.Name
			continue
		}
		r.emit(t.Name, "", "Cast", toFloat(), half.Name)
	}
	for _, n := range nodes {
		half, ok := tables[n.Input(0)]
		if !ok {
			g.Nodes = append(g.Nodes, n)
			continue
		}
		rows := r.b.OpAttrs("Gather", n.Attrs, half, n.Input(1))
		r.emit(n.Output(0), "", "Cast", toFloat(), rows)
	}
	return nil
}

func toFloat() map[string]onnx.Attr { return map[string]onnx.Attr{"to": int64(onnx.Float)} }

// isTable reports whether only Gathers read a weight, as what they choose from.
func (r *rewriter) isTable(weight string) bool {
	for _, n := range r.consumers[weight] {
		if n.Domain != "" || n.Op != "Gather" || n.Input(0) != weight || n.Input(1) == weight {
			return false
		}
	}
	return !slices.ContainsFunc(r.m.Graph.Outputs, func(v onnx.Value) bool { return v.Name == weight })
}

// toHalf rounds to half precision, to even.
func toHalf(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &^= 1 << 31
	switch {
	case b > 0xff<<23: // NaN
		return sign | 0x7e00
	case b >= (142<<23 | 0x7ff<<12): // 65520, half-way to the next power of two
		return sign | 0x7c00
	case b < 113<<23: // below 2^-14: units of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(b))*0x1p24))
	}
	b += 0xfff + b>>13&1 // a carry moves into the exponent
	return sign | uint16(b>>13-112<<10)
}
