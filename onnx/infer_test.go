package onnx

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"galley"
)

// val makes an input from "float[batch,3,?]"; "float" alone has unknown rank.
func val(spec string) Value {
	name, dims, ranked := strings.Cut(spec, "[")
	v := Value{}
	for t, d := range dataTypes {
		if d.name == name {
			v.Type = t
		}
	}
	if !ranked {
		return v
	}
	v.Shape = Shape{}
	for d := range strings.SplitSeq(strings.TrimSuffix(dims, "]"), ",") {
		var n int64
		switch _, err := fmt.Sscan(d, &n); {
		case d == "":
		case d == "?":
			v.Shape = append(v.Shape, unknownDim)
		case err == nil:
			v.Shape = append(v.Shape, Dim{Size: n})
		default:
			v.Shape = append(v.Shape, Symbol(d))
		}
	}
	return v
}

func ints(v ...int64) *Tensor { return NewInt64("", v, int64(len(v))) }

func scalar(v int64) *Tensor { return NewInt64("", []int64{v}) }

type attrs = map[string]Attr

// inferOne applies one operator to inputs (a spec, a *Tensor, or nil if it is
// omitted) and returns its outputs as specs.
func inferOne(op string, a attrs, outputs int, inputs ...any) ([]string, error) {
	domain, name, custom := strings.Cut(op, ":")
	if !custom {
		domain, name = "", op
	}
	n := &Node{Name: "n", Op: name, Domain: domain, Attrs: a}
	g := &Graph{Nodes: []*Node{n}}
	for i, in := range inputs {
		id := fmt.Sprint("in", i)
		switch in := in.(type) {
		case string:
			v := val(in)
			v.Name = id
			g.Inputs = append(g.Inputs, v)
		case *Tensor:
			w := *in
			w.Name = id
			g.Initializers = append(g.Initializers, &w)
		default:
			id = ""
		}
		n.Inputs = append(n.Inputs, id)
	}
	for i := range outputs {
		n.Outputs = append(n.Outputs, fmt.Sprint("out", i))
	}
	m := &Model{IRVersion: 8, Opsets: map[string]int64{"": 17, "com.microsoft": 1}, Graph: g}
	if err := Check(m); err != nil {
		return nil, err
	}
	types, err := InferShapes(m)
	if err != nil {
		return nil, err
	}
	out := make([]string, outputs)
	for i := range out {
		v, ok := types.Lookup(fmt.Sprint("out", i))
		if !ok {
			return nil, fmt.Errorf("output %d is not there", i)
		}
		out[i] = v.Type.String() + strings.Replace(v.Shape.String(), "[...]", "", 1)
	}
	return out, nil
}

func TestInferOperators(t *testing.T) {
	float := func(v ...float32) *Tensor { return NewFloat("", v, int64(len(v))) }
	type in = []any
	tests := []struct {
		op     string
		attrs  attrs
		inputs in
		want   string // outputs, or an error after "!"
	}{
		{"Add", nil, in{"float[batch,3]", "float[3]"}, "float[batch,3]"},
		{"Add", nil, in{"float[batch,1]", "float[1,seq]"}, "float[batch,seq]"},
		{"Add", nil, in{"float[batch]", "float[other]"}, "float[?]"},
		{"Add", nil, in{"float[batch]", "float[4]"}, "float[4]"},
		{"Add", nil, in{"float[0]", "float[1]"}, "float[0]"},
		{"Add", nil, in{"float", "float[4]"}, "float"},
		{"Add", nil, in{"float[2,3]", "float[2]"}, "!shapes [2,3] and [2] do not broadcast"},
		{"Mul", nil, in{"float[2]", "double[2]"}, "!inputs have types float and double"},
		{"Pow", nil, in{"float[2]", "int64[]"}, "float[2]"},
		{"Equal", nil, in{"int64[a,1]", "int64[5]"}, "bool[a,5]"},
		{"Where", nil, in{"bool[a,1]", "float[b]", "float[]"}, "float[a,b]"},
		{"Where", nil, in{"float[2]", "float[2]", "float[2]"}, "!condition has type float, not bool"},
		{"Max", nil, in{"float[2,1]", "float[3]", "float[1]"}, "float[2,3]"},
		{"Cast", attrs{"to": int64(Int64)}, in{"float[n]"}, "int64[n]"},
		{"Cast", attrs{"to": int64(99)}, in{"float[n]"}, "!no element type"},
		{"Gelu", nil, in{"float[n,2]"}, "float[n,2]"},
		{"com.microsoft:Gelu", nil, in{"float[n,2]"}, "float[n,2]"},
		{"Softmax", attrs{"axis": int64(-1)}, in{"float[n,2]"}, "float[n,2]"},
		{"Softmax", attrs{"axis": int64(2)}, in{"float[n,2]"}, "!axis 2 is out of range for rank 2: input shape [n,2]"},
		{"Clip", nil, in{"float[n]", nil, "float[]"}, "float[n]"},
		{"Dropout", nil, in{"float[n]"}, "float[n] bool[n]"},
		{"MatMul", nil, in{"float[b,h,s,64]", "float[b,h,64,s]"}, "float[b,h,s,s]"},
		{"MatMul", nil, in{"float[b,s,4]", "float[4,8]"}, "float[b,s,8]"},
		{"MatMul", nil, in{"float[4]", "float[4]"}, "float[]"},
		{"MatMul", nil, in{"float[4]", "float[2,4,3]"}, "float[2,3]"},
		{"MatMul", nil, in{"float[2,3,4]", "float[4]"}, "float[2,3]"},
		{"MatMul", nil, in{"float[2,3]", "float[4,5]"}, "!inner dimensions differ: [2,3] and [4,5]"},
		{"MatMul", nil, in{"float[2,3,4]", "float[3,4,5]"}, "!batch dimensions of [2,3,4] and [3,4,5] do not broadcast"},
		{"com.microsoft:MatMulNBits", attrs{"K": int64(4), "N": int64(8)}, in{"float[b,s,4]", "uint8[8,1,16]", "float[8]"}, "float[b,s,8]"},
		{"com.microsoft:MatMulNBits", attrs{"K": int64(5), "N": int64(8)}, in{"float[b,s,4]", "uint8[8,1,16]", "float[8]"}, "!inner dimensions differ: [b,s,4] and [5,8]"},
		{"com.microsoft:MatMulNBits", attrs{"K": int64(-9)}, in{"float[b,s,4]", "uint8[8,1,16]", "float[8]"}, "float[b,s,?]"},
		{"com.microsoft:FusedMatMul", attrs{"transA": int64(1), "transB": int64(1)}, in{"float[b,4,2]", "float[b,3,4]"}, "float[b,2,3]"},
		{"Gemm", attrs{"transB": int64(1)}, in{"float[n,4]", "float[3,4]", "float[3]"}, "float[n,3]"},
		{"Gemm", nil, in{"float[n,4]", "float[4,3]", "float[5]"}, "!bias [5] does not broadcast to [n,3]"},
		{"Einsum", attrs{"equation": "bij,bjk->bik"}, in{"float[b,2,3]", "float[b,3,4]"}, "float[b,2,4]"},
		{"Shape", nil, in{"float[n,2]"}, "int64[2]"},
		{"Shape", attrs{"start": int64(-1)}, in{"float[n,2]"}, "int64[1]"},
		{"Size", nil, in{"float[n,2]"}, "int64[]"},
		{"Reshape", nil, in{"float[n,s,384]", ints(0, 0, 12, 32)}, "float[n,s,12,32]"},
		{"Reshape", nil, in{"float[n,s,384]", ints(0, -1)}, "float[n,?]"},
		{"Reshape", nil, in{"float[n,s,384]", ints(-1, 384)}, "float[?,384]"},
		{"Reshape", nil, in{"float[n,4,3]", ints(-1, 12)}, "float[n,12]"},
		{"Reshape", nil, in{"float[2,3,4]", ints(4, -1)}, "float[4,6]"},
		{"Reshape", nil, in{"float[0,3]", ints(0, -1)}, "float[0,?]"},
		{"Reshape", attrs{"allowzero": int64(1)}, in{"float[0,3]", ints(3, 0)}, "float[3,0]"},
		{"Reshape", nil, in{"float[2,3]", ints(4, -1)}, "![2,3] cannot be reshaped to [4,-1]"},
		{"Reshape", nil, in{"float[2,3]", ints(7)}, "![2,3] cannot be reshaped to [7]"},
		{"Reshape", nil, in{"float[2,3]", ints(-1, -1)}, "!has -1 twice"},
		{"Reshape", nil, in{"float[2,3]", ints(-2)}, "!has the negative size -2"},
		{"Reshape", nil, in{"float[2,3]", ints(6, 1, 0)}, "!copies dimension 2 of shape [2,3]"},
		{"Reshape", nil, in{"float[2,3]", "int64[4]"}, "float[?,?,?,?]"},
		{"Flatten", attrs{"axis": int64(2)}, in{"float[2,3,n]"}, "float[6,n]"},
		{"Flatten", attrs{"axis": int64(0)}, in{"float[2,3]"}, "float[1,6]"},
		{"Squeeze", nil, in{"float[1,n,1]", ints(0, -1)}, "float[n]"},
		{"Squeeze", nil, in{"float[1,3,1]"}, "float[3]"},
		{"Squeeze", nil, in{"float[1,n,1]"}, "float"},
		{"Squeeze", attrs{"axes": []int64{0}}, in{"float[1,n,1]"}, "float[n,1]"},
		{"Squeeze", nil, in{"float[1,3]", ints(1)}, "!dimension 1 of [1,3] is not 1"},
		{"Unsqueeze", nil, in{"float[n]", ints(0, -1)}, "float[1,n,1]"},
		{"Unsqueeze", nil, in{"float[]", ints(0)}, "float[1]"},
		{"Unsqueeze", nil, in{"float[n]", ints(0, 0)}, "!axis 0 is given twice"},
		{"Transpose", attrs{"perm": []int64{0, 2, 1}}, in{"float[a,b,c]"}, "float[a,c,b]"},
		{"Transpose", nil, in{"float[a,b,c]"}, "float[c,b,a]"},
		{"Transpose", attrs{"perm": []int64{0, 0, 1}}, in{"float[a,b,c]"}, "!axis 0 is given twice"},
		{"Expand", nil, in{"float[n,1]", ints(2, 1, 5)}, "float[2,n,5]"},
		{"Expand", nil, in{"float[3]", ints(-1)}, "!negative size"},
		{"Tile", nil, in{"float[n,3]", ints(1, 4)}, "float[n,12]"},
		{"Concat", attrs{"axis": int64(1)}, in{"float[n,3]", "float[n,4]"}, "float[n,7]"},
		{"Concat", attrs{"axis": int64(0)}, in{"float[n,3]", "float[2,3]"}, "float[?,3]"},
		{"Concat", attrs{"axis": int64(0)}, in{"float[2,3]", "float[2,4]"}, "![2,3] and [2,4] differ beside axis 0"},
		{"Split", attrs{"axis": int64(1)}, in{"float[n,6]", ints(2, 4)}, "float[n,2] float[n,4]"},
		{"Split", attrs{"axis": int64(1), "num_outputs": int64(3)}, in{"float[n,8]"}, "float[n,3] float[n,3] float[n,2]"},
		{"Split", nil, in{"float[6]", ints(2, 2)}, "!sizes [2,2] do not add up to axis 0 of [6]"},
		{"Slice", nil, in{"float[n,10]", ints(2), ints(-1), ints(1)}, "float[n,7]"},
		{"Slice", nil, in{"float[10]", ints(-1), ints(-100), ints(0), ints(-3)}, "float[4]"},
		{"Slice", nil, in{"float[10]", ints(3), ints(9223372036854775807), ints(0), ints(2)}, "float[4]"},
		{"Slice", nil, in{"float[10]", ints(7), ints(3)}, "float[0]"},
		{"Slice", nil, in{"float[n,10]", ints(0), ints(9223372036854775807), ints(0)}, "float[n,10]"},
		{"Slice", nil, in{"float[n,10]", "int64[1]", "int64[1]", ints(1)}, "float[n,?]"},
		{"Slice", nil, in{"float[10]", ints(0), ints(1), ints(3)}, "!axis 3 is out of range for rank 1"},
		{"Slice", nil, in{"float[10]", ints(0), ints(1), ints(0), ints(0)}, "!step of axis 0 is 0"},
		{"Pad", nil, in{"float[n,10]", ints(0, 1, 0, 2)}, "float[n,13]"},
		{"Pad", nil, in{"float[n,10]", ints(0, 1)}, "!2 pads for 2 axes of [n,10]"},
		{"Gather", nil, in{"float[30522,384]", "int64[b,s]"}, "float[b,s,384]"},
		{"Gather", attrs{"axis": int64(1)}, in{"float[b,s,384]", "int64[]"}, "float[b,384]"},
		{"Gather", attrs{"axis": int64(4)}, in{"float[b]", "int64[]"}, "!axis 4 is out of range"},
		{"GatherElements", attrs{"axis": int64(1)}, in{"float[b,s]", "int64[b,2]"}, "float[b,2]"},
		{"GatherND", nil, in{"float[b,s,384]", "int64[k,2]"}, "float[k,384]"},
		{"GatherND", attrs{"batch_dims": int64(1)}, in{"float[b,s,384]", "int64[b,1]"}, "float[b,384]"},
		{"ScatterND", nil, in{"float[b,s]", "int64[k,2]", "float[k]"}, "float[b,s]"},
		{"ScatterElements", nil, in{"float[b,s]", "int64[k,2]", "float[k,2]"}, "float[b,s]"},
		{"OneHot", nil, in{"int64[n,s]", scalar(10), "float[2]"}, "float[n,s,10]"},
		{"NonZero", nil, in{"float[n,3]"}, "int64[2,?]"},
		{"TopK", nil, in{"float[n,10]", ints(3)}, "float[n,3] int64[n,3]"},
		{"TopK", nil, in{"float[n,10]", ints(30)}, "!k is 30 for axis 1 of [n,10]"},
		{"CumSum", nil, in{"int64[n,s]", scalar(1)}, "int64[n,s]"},
		{"ReduceSum", nil, in{"float[n,s,3]", ints(1)}, "float[n,1,3]"},
		{"ReduceMean", attrs{"axes": []int64{-1}, "keepdims": int64(0)}, in{"float[n,s,3]"}, "float[n,s]"},
		{"ReduceMax", attrs{"keepdims": int64(0)}, in{"float[n,s,3]"}, "float[]"},
		{"ReduceL2", nil, in{"float[n,3]", ints(5)}, "!axis 5 is out of range for rank 2: input shape [n,3]"},
		{"ReduceSum", attrs{"noop_with_empty_axes": int64(1)}, in{"float[n,3]"}, "float[n,3]"},
		{"ArgMax", attrs{"axis": int64(-1), "keepdims": int64(0)}, in{"float[n,3]"}, "int64[n]"},
		{"Range", nil, in{scalar(0), scalar(7), scalar(2)}, "int64[4]"},
		{"Range", nil, in{scalar(0), scalar(7), scalar(0)}, "!delta is 0"},
		{"Range", nil, in{scalar(0), scalar(math.MaxInt64), scalar(1)}, "!too long"},
		{"Range", nil, in{scalar(math.MinInt64), scalar(math.MaxInt64), scalar(1)}, "!too long"},
		{"Range", nil, in{scalar(math.MaxInt64), scalar(math.MinInt64), scalar(-1)}, "!too long"},
		{"Range", nil, in{scalar(math.MaxInt64), scalar(math.MinInt64), scalar(1)}, "int64[0]"},
		{"ConstantOfShape", attrs{"value": ints(1)}, in{ints(2, 3)}, "int64[2,3]"},
		{"ConstantOfShape", nil, in{ints(2, -3)}, "!negative size -3"},
		{"Constant", attrs{"value_ints": []int64{1, 2}}, nil, "int64[2]"},
		{"Constant", attrs{"value_float": float32(1)}, nil, "float[]"},
		{"LayerNormalization", nil, in{"float[n,s,8]", "float[8]", "float[8]"}, "float[n,s,8] float[n,s,1] float[n,s,1]"},
		{"LayerNormalization", nil, in{"float[n,s,8]", "float[7]"}, "!input 1 of shape [7] does not broadcast to [n,s,8]"},
		{"BatchNormalization", nil, in{"float[n,8,h,w]", "float[8]", "float[8]", "float[8]", "float[8]"}, "float[n,8,h,w]"},
		{"BatchNormalization", nil, in{"float[n,8,h,w]", "float[9]", "float[8]", "float[8]", "float[8]"}, "!input 1 of shape [9] does not fit the channels of [n,8,h,w]"},
		{"Conv", attrs{"pads": []int64{1, 1, 1, 1}, "strides": []int64{2, 2}}, in{"float[n,3,32,33]", "float[8,3,3,3]"}, "float[n,8,16,17]"},
		{"Conv", attrs{"group": int64(3)}, in{"float[n,3,32]", "float[6,1,5]"}, "float[n,6,28]"},
		{"Conv", attrs{"auto_pad": "SAME_UPPER", "strides": []int64{2}}, in{"float[n,3,33]", "float[6,3,5]"}, "float[n,6,17]"},
		{"Conv", nil, in{"float[n,3,32]", "float[6,2,5]"}, "!input [n,3,32] has not the channels of weights [6,2,5] in 1 groups"},
		{"Conv", nil, in{"float[n,3,2]", "float[6,3,5]"}, "!window of 5 does not fit 2 elements of spatial axis 0"},
		{"Conv", attrs{"strides": []int64{0}}, in{"float[n,3,9]", "float[6,3,5]"}, "!attribute strides has the value 0"},
		{"ConvTranspose", attrs{"strides": []int64{2, 2}}, in{"float[n,8,16,16]", "float[8,3,2,2]"}, "float[n,3,32,32]"},
		{"MaxPool", attrs{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}, in{"float[n,8,9,w]"}, "float[n,8,4,?]"},
		{"AveragePool", attrs{"kernel_shape": []int64{3}, "strides": []int64{2}, "ceil_mode": int64(1)}, in{"float[n,8,8]"}, "float[n,8,4]"},
		{"GlobalAveragePool", nil, in{"float[n,8,h,w]"}, "float[n,8,1,1]"},
		{"Resize", nil, in{"float[n,8,4,5]", nil, float(1, 1, 2, 2)}, "float[n,8,8,10]"},
		{"SoftmaxCrossEntropyLoss", nil, in{"float[n,10]", "int64[n]"}, "float[] float[n,10]"},
		{"SoftmaxCrossEntropyLoss", attrs{"reduction": "none"}, in{"float[n,10,s]", "int64[n,s]"}, "float[n,s]"},
		{"NegativeLogLikelihoodLoss", nil, in{"float[4,10]", "int64[5]"}, "!labels [5] do not fit scores [4,10]"},
		{"Trilu", nil, in{"float[s,s]"}, "float[s,s]"},
		{"LSTM", attrs{"hidden_size": int64(8), "direction": "bidirectional"}, in{"float[s,n,4]", "float[2,32,4]", "float[2,32,8]"}, "float[s,2,n,8] float[2,n,8] float[2,n,8]"},
		{"QuantizeLinear", nil, in{"float[n]", "float[]", "int8[]"}, "int8[n]"},
		{"DequantizeLinear", nil, in{"int8[n]", "float[]", "int8[]"}, "float[n]"},
		{"NoSuchOperator", nil, in{"float[n]"}, "undefined"},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(tt.op, ":", "."), i), func(t *testing.T) {
			if want, isError := strings.CutPrefix(tt.want, "!"); isError {
				_, err := inferOne(tt.op, tt.attrs, 2, tt.inputs...)
				if want != "" {
					checkError(t, err, galley.InvalidArgument, want)
				}
				if err != nil && !strings.Contains(err.Error(), `node "n"`) {
					t.Errorf("%v does not name the node", err)
				}
				return
			}
			got, err := inferOne(tt.op, tt.attrs, strings.Count(tt.want, " ")+1, tt.inputs...)
			if err != nil {
				t.Fatal(err)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %s, want %s", s, tt.want)
			}
		})
	}
}

// TestInferShapeArithmetic follows sizes through the nodes that exporters
// write around Reshape and Expand.
func TestInferShapeArithmetic(t *testing.T) {
	g := &Graph{}
	b := NewBuilder(g)
	x := b.Input("x", Float, Shape{Symbol("batch"), Symbol("seq"), {Size: 384}})
	shape := b.Op("Shape", x)
	batch := b.Op("Unsqueeze", b.Op("Gather", shape, b.Int(0)), b.Ints(0))
	seq := b.Op("Unsqueeze", b.Op("Gather", shape, b.Int(1)), b.Ints(0))
	heads := b.Op("Div", b.Op("Slice", shape, b.Ints(-1), b.Ints(1<<40), b.Ints(0)), b.Ints(32))
	split := b.Op("Reshape", x, b.OpAttrs("Concat", attrs{"axis": int64(0)}, batch, seq, heads, b.Ints(32)))
	// expand(-1, seq): keep the size where -1 is asked for.
	asked := b.OpAttrs("Concat", attrs{"axis": int64(0)}, b.Ints(-1), seq)
	ones := b.OpAttrs("ConstantOfShape", attrs{"value": ints(1)}, b.Op("Shape", asked))
	minus := b.Op("Mul", ones, b.Int(-1))
	target := b.Op("Where", b.Op("Equal", asked, minus), ones, asked)
	row := b.Input("row", Float, Shape{Symbol("batch"), {Size: 1}})
	wide := b.Op("Expand", row, target)
	table := b.Op("Slice", b.Input("table", Float, Fixed(512, 384)), b.Ints(0), seq, b.Ints(0))
	sum := b.Op("Add", x, table)
	positions := b.Op("Range", b.Int(0), b.Op("Squeeze", seq), b.Int(1))
	m := &Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g}
	if err := Check(m); err != nil {
		t.Fatal(err)
	}
	types, err := InferShapes(m)
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		split: "[batch,seq,12,32]", wide: "[batch,seq]", positions: "[seq]",
		table: "[min(512,seq),384]", sum: "[batch,seq,384]",
	} {
		if got := types.Shape(value).String(); got != want {
			t.Errorf("%s has shape %s, want %s", value, got, want)
		}
	}
	c, ok := types.Constant(heads)
	if v, _ := c.Ints(); !ok || len(v) != 1 || v[0] != 12 {
		t.Errorf("heads are %v, want [12]", v)
	}
	if _, ok := types.Constant(seq); ok {
		t.Error("the sequence length is no constant")
	}
}

func TestInferDeclaredConflict(t *testing.T) {
	g := &Graph{
		Inputs:  []Value{{Name: "x", Type: Float, Shape: Fixed(2, 3)}},
		Nodes:   []*Node{{Name: "relu", Op: "Relu", Inputs: []string{"x"}, Outputs: []string{"y"}}},
		Outputs: []Value{{Name: "y", Type: Float, Shape: Fixed(2, 4)}},
	}
	_, err := InferShapes(&Model{Opsets: map[string]int64{"": 17}, Graph: g})
	checkError(t, err, galley.InvalidArgument, `node "relu" (Relu): output "y" has shape [2,3], but is declared [2,4]`)
	g.Outputs[0] = Value{Name: "y", Type: Int64, Shape: Fixed(2, 3)}
	_, err = InferShapes(&Model{Opsets: map[string]int64{"": 17}, Graph: g})
	checkError(t, err, galley.InvalidArgument, `output "y" has type float, but is declared int64`)
}
