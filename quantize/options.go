package quantize

import (
	"slices"

	"galley"
	"galley/onnx"
)

// A Method is a way to quantise.
type Method string

// The methods.
const (
	Dynamic    Method = "dynamic"     // 8-bit products; ranges of activations found at each run
	Static     Method = "static"      // 8-bit products; ranges of activations found by calibration
	WeightOnly Method = "weight-only" // 4-bit weights; ranges of activations found at each run
	Float16    Method = "float16"     // half-precision weights
)

// Methods lists them all.
var Methods = []Method{Dynamic, Static, WeightOnly, Float16}

// Options say how Apply quantises.
type Options struct {
	Method Method
	// PerTensor gives a weight one scale instead of one for each of its
	// columns (of a convolution: output channels, of a table: rows).
	PerTensor bool
	// Asymmetric gives 4-bit weights a zero point for each block.
	Asymmetric bool
	// SymmetricActivations puts the zero point of activations in the middle.
	SymmetricActivations bool
	// SignedActivations stores activations as int8 instead of uint8.
	SignedActivations bool
	// Narrow keeps weights to 7 bits, so that no sum saturates.
	Narrow bool
	// Block is how many weights of a column share a 4-bit scale: a power of
	// two from 16 to 256; 32 if 0.
	Block int
	// FloatTables leaves the tables of Gather as they are.
	FloatTables bool
	// Ranges are those of the activations that Activations names.
	Ranges map[string]Range
	// Leave names sites, by the first output of their node, that stay float.
	Leave map[string]bool
}

func (o *Options) check() error {
	if !slices.Contains(Methods, o.Method) {
		return galley.Errorf(galley.InvalidArgument, "method", "%q is none", galley.Clip(string(o.Method), 40)).
			WithRemedy("use dynamic, static, weight-only or float16")
	}
	if o.Block == 0 {
		o.Block = 32
	}
	if o.Block < 16 || o.Block > 256 || o.Block&(o.Block-1) != 0 {
		return galley.Errorf(galley.InvalidArgument, "block", "%d is not a power of two from 16 to 256", o.Block).
			WithRemedy("32 suits most models")
	}
	return nil
}

// weightGrid is where 8-bit weights lie.
func (o *Options) weightGrid() Grid {
	if o.Narrow {
		return int7Grid
	}
	return int8Symmetric
}

// activationGrid is where 8-bit activations lie.
func (o *Options) activationGrid() Grid {
	switch {
	case !o.SignedActivations:
		return uint8Grid
	case o.SymmetricActivations:
		return int8Symmetric
	default:
		return int8Grid
	}
}

// The operators beside the standard ones that are written.
const (
	microsoft        = "com.microsoft"
	microsoftVersion = 1
)

// An unquantizable error says that a graph has nothing that a method works on.
func unquantizable(m *onnx.Model, method Method, left []Left) error {
	why, remedy := "it has no product or table with constant weights", "use method: float16, which takes any float weights, or keep the model as it is"
	switch {
	case isQuantized(m.Graph):
		why, remedy = "it is quantised already", "choose the version that it was made of"
	case len(left) > 0:
		why = left[0].String()
	}
	return galley.Errorf(galley.FailedPrecondition, "model", "nothing in the graph can be quantised by method %s: %s", method, why).WithRemedy("%s", remedy)
}

// isQuantized tells a graph of quantised products.
func isQuantized(g *onnx.Graph) bool {
	return slices.ContainsFunc(g.Nodes, func(n *onnx.Node) bool {
		switch n.Op {
		case "MatMulInteger", "ConvInteger", "DequantizeLinear", "MatMulNBits", "QLinearMatMul", "QLinearConv":
			return true
		}
		return false
	})
}
