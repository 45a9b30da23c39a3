package federation

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"galley"
	"galley/onnx"
)

func graphWeights(scale float32) []*onnx.Tensor {
	long := make([]float32, chunk+3)
	for i := range long {
		long[i] = scale * float32(i)
	}
	return []*onnx.Tensor{
		onnx.NewFloat("w", long, int64(len(long))), onnx.NewFloat("b", []float32{scale, -scale}, 2), onnx.NewFloat("s", []float32{3}), onnx.NewFloat("none", nil, 0, 4),
	}
}

func TestTensorsAreReadAsWritten(t *testing.T) {
	from, into := graphWeights(2), graphWeights(0)
	var b bytes.Buffer
	written, err := WriteTensors(&b, from)
	if err != nil {
		t.Fatal(err)
	}
	before := into[0].Data
	read, err := ReadTensors(bytes.NewReader(b.Bytes()), into)
	if err != nil || read != written || read != galley.DigestBytes(b.Bytes()) {
		t.Fatalf("%s, %s: %v", read, written, err)
	}
	for i := range from {
		if !bytes.Equal(from[i].Data, into[i].Data) || from[i].Name != into[i].Name || !reflect.DeepEqual(from[i].Dims, into[i].Dims) {
			t.Errorf("%s: %d bytes, want %d", into[i].Name, len(into[i].Data), len(from[i].Data))
		}
	}
	if !bytes.Equal(before, make([]byte, len(before))) {
		t.Error("what the tensor held before was written to")
	}
}

func TestTensorsAreReadWholeOrNotAtAll(t *testing.T) {
	var b bytes.Buffer
	if _, err := WriteTensors(&b, graphWeights(2)); err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{b.Bytes()[:b.Len()-1], append(bytes.Clone(b.Bytes()), 0), nil} {
		into := graphWeights(1)
		var f *Fault
		if _, err := ReadTensors(bytes.NewReader(data), into); !errors.As(err, &f) || !reflect.DeepEqual(into, graphWeights(1)) {
			t.Errorf("%v", err)
		}
	}
	broken := graphWeights(1)
	broken[1].Data = broken[1].Data[:5]
	if _, err := WriteTensors(&bytes.Buffer{}, broken); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("a tensor with too few bytes: %v", err)
	}
	if _, err := WriteTensors(&bytes.Buffer{}, []*onnx.Tensor{onnx.NewInt64("n", []int64{1}, 1)}); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("integers: %v", err)
	}
}
