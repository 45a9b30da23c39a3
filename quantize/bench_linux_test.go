//go:build peers && bench

package quantize

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"galley/dataset"
	"galley/feature/text"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/task"
)

const (
	calibrationTexts = 512
	peerHistograms   = 128 // texts for the peer's searches, whose memory grows with them
	fidelityTexts    = 200
)

// newsTexts are rows of AG News' texts.
type newsTexts []string

func (n newsTexts) Len() int                      { return len(n) }
func (n newsTexts) At(i int) (dataset.Row, error) { return dataset.Row{Text: n[i]}, nil }

// shared is a file of the shared data.
func shared(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the shared data are not here: %v", err)
	}
	return path
}

func readTexts(t *testing.T, name string, n int) newsTexts {
	t.Helper()
	f, err := os.Open(shared(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord, r.LazyQuotes = -1, true
	var out newsTexts
	for len(out) < n+1 {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.Join(record[1:], " "))
	}
	return out[1:] // behind the header
}

func miniLM(t *testing.T) (path string, encoder *task.TextEncoder) {
	t.Helper()
	f, err := os.Open(shared(t, "models/all-minilm-l6-v2/tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tokenizer, err := text.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	encoder, err = task.NewTextEncoder(&task.Config{
		Format: task.ConfigFormat, Task: task.TextMLM, MaxLength: 128,
		Inputs:  task.Inputs{IDs: "input_ids", Mask: "attention_mask", Types: "token_type_ids"},
		Outputs: task.Outputs{Logits: "sentence_embedding"},
	}, tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	return shared(t, "models/all-minilm-l6-v2/model.onnx"), encoder
}

// benchCase is a method of both sides.
type benchCase struct {
	Name   string
	Method Method
	Search Search
	Texts  int // of the peer
	// What is wanted at most, of the peer's.
	MostWall, MostPeak float64
}

// quantizeTurns are how often each side quantises by a method, in turns.
const quantizeTurns = 3

var benchCases = []benchCase{
	{"dynamic", Dynamic, "", 0, 0.5, 0.5},
	{"minmax", Static, MinMax, calibrationTexts, 0.5, 0.5},
	{"percentile", Static, Percentile, peerHistograms, 0.5, 0.15},
	{"entropy", Static, Entropy, peerHistograms, 0.5, 0.15},
	{"mse", Static, MSE, 0, 0, 0},
	{"weight-only", WeightOnly, "", 0, 0, 0},
}

// TestQuantizeOnce quantises MiniLM once, as the process that TestBenchQuantize
// starts and measures.
func TestQuantizeOnce(t *testing.T) {
	asked := os.Getenv("GALLEY_QUANTIZE_ONCE")
	if asked == "" {
		t.Skip("TestBenchQuantize runs it")
	}
	name, out, _ := strings.Cut(asked, ":")
	for _, c := range benchCases {
		if c.Name == name {
			quantizeOnce(t, c, out)
		}
	}
}

func quantizeOnce(t *testing.T, c benchCase, out string) {
	path, encoder := miniLM(t)
	m, err := onnx.ReadFile(path, onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Method: c.Method, Narrow: Saturates()}
	if c.Method == Static {
		texts := readTexts(t, "ag_news/train.csv", calibrationTexts)
		order := make([]int, len(texts))
		for i := range order {
			order[i] = i
		}
		sites, _, err := Find(m, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Ranges, err = Calibrate(t.Context(), orttest.Opener(t), m, Activations(m, sites), Texts(encoder, texts, order),
			Calibration{Search: c.Search, Percentile: 99.999, Threads: 1}, o)
		if err != nil {
			t.Fatal(err)
		}
	}
	q, _, err := Apply(m, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := onnx.WriteFile(out, q, onnx.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// ortQuantizesMiniLM does the same: argv are the method, the model, the token
// ids and the file to write.
const ortQuantizesMiniLM = `
import json, logging, sys
import numpy as np, onnxruntime as ort
ort.set_default_logger_severity(4)
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization import calibrate
logging.disable(logging.CRITICAL)
method, model, ids, out, n = sys.argv[1:6]
real = ort.InferenceSession
def one_thread(path, sess_options=None, **kw):
    if sess_options is None: sess_options = ort.SessionOptions()
    sess_options.intra_op_num_threads = 1
    return real(path, sess_options=sess_options, **kw)
ort.InferenceSession = one_thread
class Reader(CalibrationDataReader):
    def __init__(self): self.left = iter(json.load(open(ids))[:int(n)])
    def get_next(self):
        row = next(self.left, None)
        if row is None: return None
        if method == "minmax":
            x = np.array([row], dtype=np.int64)
            return {"input_ids": x, "attention_mask": np.ones_like(x), "token_type_ids": np.zeros_like(x)}
        # Its histograms want one length, and none of the huge numbers of a mask.
        x = np.zeros((1, 128), dtype=np.int64)
        x[0, :len(row)] = row
        return {"input_ids": x, "attention_mask": np.ones_like(x), "token_type_ids": np.zeros_like(x)}
if method == "dynamic":
    quantize_dynamic(model, out, per_channel=True)
else:
    how = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}[method]
    # All operators at once cost it more accuracy, and its histograms fail on the numbers of masks.
    quantize_static(model, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, calibrate_method=how, op_types_to_quantize=["MatMul", "Gather"])
`

// ortWidens writes the model of argv[1] to argv[2] with its table of
// half-precision rows as float32: what the peer's quantiser makes of the former
// no runtime opens.
const ortWidens = `
import sys, numpy as np, onnx
from onnx import numpy_helper
m = onnx.load(sys.argv[1])
halves = {t.name: t for t in m.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
for t in halves.values():
    t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float32), t.name))
for n in m.graph.node:
    if n.op_type == "Gather" and n.input[0] in halves:
        for c in m.graph.node:
            if c.op_type == "Cast" and c.input[0] == n.output[0]:
                c.op_type = "Identity"
                del c.attribute[:]
kept = [v for v in m.graph.value_info if v.type.tensor_type.elem_type != onnx.TensorProto.FLOAT16]
del m.graph.value_info[:]
m.graph.value_info.extend(kept)
onnx.save(m, sys.argv[2])
`

// ortMeasures prints, of each file in argv[2:], the mean cosine of its
// embeddings to those of the first, and its median latency at batch 1, taken in
// turns.
const ortMeasures = `
import json, sys, time
import numpy as np, onnxruntime as ort
texts = json.load(open(sys.argv[1]))
sessions = []
for f in sys.argv[2:]:
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.log_severity_level = 1, 4
    sessions.append(ort.InferenceSession(f, o, providers=["CPUExecutionProvider"]))
took, cos = [[] for _ in sessions], [[] for _ in sessions]
for i, row in enumerate(texts):
    x = np.array([row], dtype=np.int64)
    feed = {"input_ids": x, "attention_mask": np.ones_like(x), "token_type_ids": np.zeros_like(x)}
    out = [None] * len(sessions)
    for turn in range(len(sessions)):
        k = (turn + i) % len(sessions)
        best = []
        for _ in range(3):
            at = time.perf_counter()
            out[k] = sessions[k].run(["sentence_embedding"], feed)[0][0]
            best.append(time.perf_counter() - at)
        took[k].append(sorted(best)[1])
    for k, v in enumerate(out):
        cos[k].append(float(v @ out[0] / np.linalg.norm(v) / np.linalg.norm(out[0])))
print(json.dumps([{"cosine": float(np.mean(c)), "p50": float(np.median(t) * 1e3)} for c, t in zip(cos, took)]))
`

// used is what a process took.
type used struct {
	wall time.Duration
	peak int64 // bytes of resident memory
}

func measured(t *testing.T, cmd *exec.Cmd) used {
	t.Helper()
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return used{time.Since(began), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10}
}

// TestBenchQuantize quantises MiniLM here and by ONNX Runtime's own quantiser,
// each in a fresh process of one thread, and compares wall time, peak memory,
// nearness to float and latency.
func TestBenchQuantize(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		t.Skip("GALLEY_PEERS_PYTHON names no Python with onnxruntime and onnx")
	}
	path, encoder := miniLM(t)
	orttest.Opener(t) // obtained before anything is measured
	dir := t.TempDir()
	writeIDs := func(name string, texts newsTexts) string {
		var rows [][]int32
		for i, s := range texts {
			ids, _, err := encoder.Tokenize(nil, fmt.Sprint("text ", i), s)
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, ids)
		}
		data, err := json.Marshal(rows)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	wide := filepath.Join(dir, "wide.onnx")
	if out, err := exec.CommandContext(t.Context(), python, "-c", ortWidens, path, wide).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ids := writeIDs("calibration.json", readTexts(t, "ag_news/train.csv", calibrationTexts))
	files := []string{path}
	place := map[string]int{}
	add := func(name, file string) {
		place[name] = len(files)
		files = append(files, file)
	}
	only := os.Getenv("GALLEY_QUANTIZE_CASES")
	for _, c := range benchCases {
		if only != "" && !strings.Contains(","+only+",", ","+c.Name+",") {
			continue
		}
		file, peer := filepath.Join(dir, c.Name+".onnx"), filepath.Join(dir, "ort-"+c.Name+".onnx")
		compared := c.Method == Dynamic || c.Texts > 0
		var ours, theirs [quantizeTurns]used
		var walls, peaks []float64
		for i := range quantizeTurns {
			own := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestQuantizeOnce$")
			own.Env = append(os.Environ(), "GALLEY_QUANTIZE_ONCE="+c.Name+":"+file, "GOMAXPROCS=1")
			ours[i] = measured(t, own)
			if compared {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				theirs[i] = measured(t, exec.CommandContext(ctx, python, "-c", ortQuantizesMiniLM, c.Name, wide, ids, peer, fmt.Sprint(c.Texts)))
				cancel()
				walls = append(walls, ours[i].wall.Seconds()/theirs[i].wall.Seconds())
				peaks = append(peaks, float64(ours[i].peak)/float64(theirs[i].peak))
			}
		}
		add("ours "+c.Name, file)
		line := fmt.Sprintf("%-12s ours %6.2f s %5.0f MB", c.Name, ours[0].wall.Seconds(), float64(ours[0].peak)/1e6)
		if compared {
			add("theirs "+c.Name, peer)
			slices.Sort(walls)
			slices.Sort(peaks)
			wall, peak := walls[quantizeTurns/2], peaks[quantizeTurns/2]
			line += fmt.Sprintf("; theirs %6.2f s %5.0f MB with %d texts; median of %d turns %.2fx (%.2f to %.2f) of the time, %.2fx (%.2f to %.2f) of the memory",
				theirs[0].wall.Seconds(), float64(theirs[0].peak)/1e6, c.Texts, quantizeTurns,
				wall, walls[0], walls[quantizeTurns-1], peak, peaks[0], peaks[quantizeTurns-1])
			if wall > c.MostWall || peak > c.MostPeak {
				t.Errorf("%s: at most %.2fx of the time and %.2fx of the memory are wanted", c.Name, c.MostWall, c.MostPeak)
			}
		}
		t.Log(line)
	}
	asked := append([]string{"-c", ortMeasures, writeIDs("test.json", readTexts(t, "ag_news/test.csv", fidelityTexts))}, files...)
	cmd := exec.CommandContext(t.Context(), python, asked...)
	cmd.Stderr = os.Stderr
	printed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []struct{ Cosine, P50 float64 }
	if err := json.Unmarshal(printed, &got); err != nil || len(got) != len(files) {
		t.Fatalf("%v %s", err, printed)
	}
	for _, c := range benchCases {
		for _, side := range []string{"ours ", "theirs "} {
			k, ok := place[side+c.Name]
			if !ok {
				continue
			}
			info, err := os.Stat(files[k])
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%-7s%-12s cosine %.4f, %5.2f MB, p50 %.2f ms, %.2fx of float", side, c.Name, got[k].Cosine, float64(info.Size())/1e6, got[k].P50, got[k].P50/got[0].P50)
		}
	}
}
