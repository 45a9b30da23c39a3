package session_test

import (
	"math"
	"slices"
	"testing"

	"galley/onnx"
	"galley/onnx/session"
)

func TestNew(t *testing.T) {
	data := []float32{1, 2, 3, 4, 5, 6}
	shape := []int64{2, 3}
	x, err := session.New(data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	shape[0] = 9
	if x.Type != onnx.Float || !slices.Equal(x.Shape, []int64{2, 3}) || x.Size() != 6 || len(x.Bytes()) != 24 {
		t.Errorf("got %+v", x)
	}
	data[5] = 7
	view := session.Data[float32](x)
	if view[5] != 7 {
		t.Error("the tensor is a copy")
	}
	view[0] = 8
	if data[0] != 8 {
		t.Error("the view is a copy")
	}
	if session.Data[int32](x) != nil || session.Data[float32](nil) != nil || x.Strings() != nil {
		t.Error("a float tensor has elements of another type")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, shape := range [][]int64{{2}, {}, {3, 0}, {-1, -3}, {math.MaxInt64, 2}, {1 << 40, 1 << 40}} {
		if x, err := session.New(make([]int8, 3), shape...); err == nil {
			t.Errorf("three elements fill %v: %+v", shape, x)
		}
		if x, err := session.NewStrings(make([]string, 3), shape...); err == nil {
			t.Errorf("three strings fill %v: %+v", shape, x)
		}
	}
	for _, shape := range [][]int64{{-1}, {math.MaxInt64}, {1 << 40, 1 << 40}} {
		if _, err := session.Zeros[float32](shape...); err == nil {
			t.Errorf("a tensor of %v is made", shape)
		}
	}
}

func TestScalarsAndEmpty(t *testing.T) {
	for _, c := range []struct {
		shape []int64
		size  int64
	}{{nil, 1}, {[]int64{0}, 0}, {[]int64{3, 0, math.MaxInt64 / 8}, 0}, {[]int64{2, 2}, 4}} {
		x, err := session.Zeros[int64](c.shape...)
		if err != nil || x.Size() != c.size || int64(len(session.Data[int64](x))) != c.size || session.Data[int64](x) == nil {
			t.Errorf("%v: %+v, %v", c.shape, x, err)
		}
	}
}

// typed checks that elements of a type have the data type of its name.
func typed[T session.Number](t *testing.T, want onnx.DataType) {
	t.Helper()
	x, err := session.Zeros[T](3)
	if err != nil || x.Type != want || int64(len(x.Bytes()))*8 != 3*want.Bits() || len(session.Data[T](x)) != 3 {
		t.Errorf("%s: %+v, %v", want, x, err)
	}
}

func TestTypes(t *testing.T) {
	typed[float32](t, onnx.Float)
	typed[float64](t, onnx.Double)
	typed[int8](t, onnx.Int8)
	typed[int16](t, onnx.Int16)
	typed[int32](t, onnx.Int32)
	typed[int64](t, onnx.Int64)
	typed[uint8](t, onnx.Uint8)
	typed[uint16](t, onnx.Uint16)
	typed[uint32](t, onnx.Uint32)
	typed[uint64](t, onnx.Uint64)
	typed[bool](t, onnx.Bool)
}

func TestCloseReleasesOnce(t *testing.T) {
	released := 0
	x := session.FromMemory(onnx.Float16, []int64{2}, make([]byte, 4), func() { released++ })
	x.Close()
	x.Close()
	if released != 1 || x.Bytes() != nil {
		t.Errorf("released %d times, %v left", released, x.Bytes())
	}
	var none *session.Tensor
	none.Close()
	own, _ := session.Zeros[float32](1)
	own.Close()
	if len(session.Data[float32](own)) != 1 {
		t.Error("Go's memory is taken away")
	}
}
