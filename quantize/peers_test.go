//go:build peers

package quantize

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galley/onnx"
	"galley/onnx/session"
)

// ortQuantizes runs ONNX Runtime's own quantiser over argv[1]/model.onnx with
// the batches of argv[1]/batches.json, and prints the scales and zero points
// that it wrote, and the answers of its files and of ours.
const ortQuantizes = `
import collections, json, logging, os, sys
import numpy as np, onnx, onnxruntime as ort
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
logging.disable(logging.CRITICAL)
folder = sys.argv[1]
batches = [np.array(b, dtype=np.int64) for b in json.load(open(folder + "/batches.json"))]
class Reader(CalibrationDataReader):
    def __init__(self): self.left = iter(batches)
    def get_next(self):
        b = next(self.left, None)
        return None if b is None else {"ids": b}
model = folder + "/model.onnx"
kinds = ["MatMul", "Gemm"]
quantize_dynamic(model, folder + "/ort-dynamic.onnx", per_channel=True, op_types_to_quantize=kinds)
quantize_static(model, folder + "/ort-static.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=kinds)
def session(path):
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.log_severity_level, o.optimized_model_filepath = 1, 4, folder + "/optimized"
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
out = {"written": {}, "answers": {}, "runs": {}}
for t in onnx.load(folder + "/ort-static.onnx").graph.initializer:
    if t.name.endswith(("_scale", "_zero_point")):
        out["written"][t.name] = [float(x) for x in np.atleast_1d(numpy_helper.to_array(t)).astype(np.float64)]
for f in sorted(os.listdir(folder)):
    if f.endswith(".onnx"):
        s = session(folder + "/" + f)
        out["runs"][f] = dict(collections.Counter(n.op_type for n in onnx.load(folder + "/optimized").graph.node))
        if f.endswith("image.onnx"):
            continue
        out["answers"][f] = [float(x) for b in batches for x in s.run(None, {"ids": b})[0].ravel()]
print(json.dumps(out))
`

// TestPeerQuantizer compares with ONNX Runtime's quantiser: the same scales and
// zero points for min-max ranges, answers at least as near to float, and our
// files in the stock runtime.
func TestPeerQuantizer(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with onnxruntime and onnx")
	}
	dir := t.TempDir()
	write := func(name string, data []byte, err error) {
		t.Helper()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	m := textModel()
	data, err := onnx.Marshal(m)
	write("model.onnx", data, err)
	var batches [][][]int64
	for b := range textBatches(t, 9) {
		ids, rows := session.Data[int64](b["ids"]), [][]int64{}
		for row := range slices.Chunk(ids, int(b["ids"].Shape[1])) {
			rows = append(rows, row)
		}
		batches = append(batches, rows)
	}
	data, err = json.Marshal(batches)
	write("batches.json", data, err)
	forms := map[string]Options{
		// Theirs leaves a Gemm in float.
		"dynamic": {Method: Dynamic, FloatTables: true, Leave: map[string]bool{"logits": true}}, "static": {Method: Static, FloatTables: true},
		"weight-only": {Method: WeightOnly, Asymmetric: true}, "float16": {Method: Float16},
	}
	var static *onnx.Model
	for name, o := range forms {
		q, _ := quantized(t, m, o, textBatches(t, 9), MinMax)
		if name == "static" {
			static = q
		}
		data, err := onnx.Marshal(q)
		write("our-"+name+".onnx", data, err)
	}
	q, _ := quantized(t, imageModel(), Options{Method: Static}, imageBatches(t, 3), MinMax)
	data, err = onnx.Marshal(q)
	write("our-image.onnx", data, err)
	cmd := exec.CommandContext(t.Context(), python, "-c", ortQuantizes, dir)
	cmd.Stderr = os.Stderr
	printed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Written map[string][]float64
		Answers map[string][]float32
		Runs    map[string]map[string]int // nodes of what the runtime makes of a file
	}
	if err := json.Unmarshal(printed[strings.LastIndex(strings.TrimSpace(string(printed)), "\n")+1:], &got); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, x := range static.Graph.Initializers {
		name, scale := strings.CutSuffix(strings.TrimPrefix(x.Name, "quantized/"), "/scale")
		theirs := got.Written[name+"_scale"]
		if !scale || len(theirs) == 0 {
			continue
		}
		ours, _ := x.Floats()
		if len(ours) != len(theirs) {
			t.Errorf("%s has %d scales, theirs %d", name, len(ours), len(theirs))
			continue
		}
		for i, s := range ours {
			if math.Abs(float64(s)/theirs[i]-1) > 1e-5 {
				t.Errorf("%s has scale %v, theirs %v", name, s, theirs[i])
			}
		}
		zero := static.Graph.Initializer("quantized/" + name + "/zero")
		for i, z := range got.Written[name+"_zero_point"] {
			q := float64(int8(zero.Data[i]))
			if zero.Type == onnx.Uint8 {
				q = float64(zero.Data[i])
			}
			if q != z {
				t.Errorf("%s has zero point %v, theirs %v", name, q, z)
			}
		}
		compared++
	}
	if compared < 3 {
		t.Errorf("%d tensors compared; theirs are %v", compared, got.Written)
	}
	for file, want := range map[string]map[string]int{
		"our-dynamic.onnx": {"DynamicQuantizeMatMul": 0, "MatMulIntegerToFloat": 2, "DynamicQuantizeLinear": 1, "MatMulInteger": 0},
		"our-static.onnx":  {"MatMulIntegerToFloat": 1, "MatMulInteger": 1, "QGemm": 1, "QuantizeLinear": 2, "DequantizeLinear": 0, "MatMul": 0},
		"our-image.onnx":   {"QLinearConv": 2, "Conv": 0, "Relu": 0},
	} {
		for op, n := range want {
			if got.Runs[file][op] != n {
				t.Errorf("the runtime makes %v of %s, want %v", got.Runs[file], file, want)
				break
			}
		}
	}
	float := got.Answers["model.onnx"]
	alike := func(name string) float64 {
		if len(got.Answers[name]) != len(float) || len(float) == 0 {
			t.Fatalf("%s gave %d answers of %d", name, len(got.Answers[name]), len(float))
		}
		return cosine(got.Answers[name], float)
	}
	for name := range forms {
		ours := alike("our-" + name + ".onnx")
		t.Logf("%s: cosine %.6f", name, ours)
		if name != "dynamic" && name != "static" {
			if ours < .99 {
				t.Errorf("%s: cosine %v", name, ours)
			}
			continue
		}
		theirs := alike("ort-" + name + ".onnx")
		t.Logf("%s: theirs %.6f", name, theirs)
		if ours < theirs-1e-6 {
			t.Errorf("%s: cosine %v, theirs %v", name, ours, theirs)
		}
	}
}
