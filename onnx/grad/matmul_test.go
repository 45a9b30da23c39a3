package grad_test

import (
	"testing"

	"galley/onnx"

	"pgregory.net/rapid"
)

func TestMatMul(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []int64
	}{
		{"matrices", []int64{3, 4}, []int64{4, 2}},
		{"rows times matrix", []int64{2, 3, 4}, []int64{4, 2}},
		{"batches", []int64{2, 3, 4}, []int64{2, 4, 3}},
		{"broadcast batches", []int64{2, 1, 3, 4}, []int64{3, 4, 2}},
		{"matrix times batches", []int64{3, 4}, []int64{2, 4, 2}},
		{"vectors", []int64{4}, []int64{4}},
		{"vector times matrix", []int64{4}, []int64{4, 3}},
		{"matrix times vector", []int64{3, 4}, []int64{4}},
		{"vector times batches", []int64{4}, []int64{2, 4, 3}},
		{"batches times vector", []int64{2, 3, 4}, []int64{4}},
		{"single", []int64{1, 1}, []int64{1, 1}},
		{"row", []int64{1, 3}, []int64{3, 1}},
		{"no rows", []int64{0, 3}, []int64{3, 2}},
		{"no batches", []int64{0, 2, 3}, []int64{3, 2}},
		{"no columns", []int64{2, 3}, []int64{3, 0}},
		{"nothing inside", []int64{2, 0}, []int64{0, 3}},
	} {
		for _, typ := range []onnx.DataType{onnx.Double, onnx.Float} {
			property(t, c.name, func(rt *rapid.T) *fixture {
				return &fixture{operands: []operand{{dims: c.a}, {dims: c.b}}, build: op("MatMul", nil), typ: typ}
			})
		}
	}
}

func TestGemm(t *testing.T) {
	property(t, "Gemm", func(rt *rapid.T) *fixture {
		m := rapid.SampledFrom([]int64{2, 1, 3, 0}).Draw(rt, "m")
		k := rapid.SampledFrom([]int64{2, 1, 3}).Draw(rt, "k")
		n := rapid.SampledFrom([]int64{2, 1, 3}).Draw(rt, "n")
		transA, transB := rapid.Bool().Draw(rt, "transA"), rapid.Bool().Draw(rt, "transB")
		a, b := []int64{m, k}, []int64{k, n}
		at := attrs{"alpha": float32(0.5), "beta": float32(2)}
		if transA {
			a, at["transA"] = []int64{k, m}, int64(1)
		}
		if transB {
			b, at["transB"] = []int64{n, k}, int64(1)
		}
		c := rapid.SampledFrom([][]int64{{m, n}, {n}, {1, n}, {m, 1}, {1}, {}}).Draw(rt, "c")
		return &fixture{operands: []operand{{dims: a}, {dims: b}, {dims: c}}, build: op("Gemm", at)}
	})
	property(t, "FusedMatMul", func(rt *rapid.T) *fixture {
		at := attrs{"alpha": float32(0.5)}
		a := rapid.SampledFrom([][]int64{{3, 4}, {2, 3, 4}, {2, 1, 3, 4}}).Draw(rt, "a")
		b := rapid.SampledFrom([][]int64{{4, 2}, {2, 4, 2}}).Draw(rt, "b")
		swap := func(s []int64) []int64 {
			s = append([]int64{}, s...)
			n := len(s)
			s[n-1], s[n-2] = s[n-2], s[n-1]
			return s
		}
		if rapid.Bool().Draw(rt, "transA") {
			a, at["transA"] = swap(a), int64(1)
		}
		if rapid.Bool().Draw(rt, "transB") {
			b, at["transB"] = swap(b), int64(1)
		}
		return &fixture{operands: []operand{{dims: a}, {dims: b}}, build: msOp("FusedMatMul", at), typ: onnx.Float}
	})
}
