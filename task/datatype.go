package task

import "galley/onnx"

// datatypes are the Open Inference Protocol's names of element types.
var datatypes = map[string]onnx.DataType{
	"BOOL": onnx.Bool, "UINT8": onnx.Uint8, "UINT16": onnx.Uint16, "UINT32": onnx.Uint32, "UINT64": onnx.Uint64,
	"INT8": onnx.Int8, "INT16": onnx.Int16, "INT32": onnx.Int32, "INT64": onnx.Int64,
	"FP16": onnx.Float16, "BF16": onnx.BFloat16, "FP32": onnx.Float, "FP64": onnx.Double, "BYTES": onnx.String,
}

// ParseDatatype returns the element type that the protocol calls name.
func ParseDatatype(name string) (onnx.DataType, bool) {
	t, ok := datatypes[name]
	return t, ok
}

// Datatype returns the protocol's name of an element type, "" if it has none.
func Datatype(t onnx.DataType) string {
	for name, d := range datatypes {
		if d == t {
			return name
		}
	}
	return ""
}

// GraphSignature is what clients see of a graph without a task: its own
// inputs and outputs.
func GraphSignature(inputs, outputs []onnx.Value) Signature {
	fields := func(values []onnx.Value) []Field {
		out := make([]Field, len(values))
		for i, v := range values {
			out[i] = Field{Name: v.Name, Datatype: Datatype(v.Type)}
			if v.Shape != nil {
				out[i].Shape = make([]int64, 0, len(v.Shape))
			}
			for _, d := range v.Shape {
				out[i].Shape = append(out[i].Shape, max(d.Size, -1))
			}
		}
		return out
	}
	return Signature{Inputs: fields(inputs), Outputs: fields(outputs)}
}
