package quantize_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"galley"
	"galley/dataset"
	"galley/examples/headlines"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/quantize"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
	engineonnx "galley/trainer/engine/onnx"
)

// A trained model with its data, made once for all tests.
type trained struct {
	dir      string
	manifest *dataset.Manifest
	records  map[string]string
	bundle   string
}

var (
	workDir string
	once    sync.Once
	model   trained
	failure error
)

func TestMain(m *testing.M) {
	var err error
	if workDir, err = os.MkdirTemp("", "quantize"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(workDir)
	os.Exit(code)
}

func trainedModel(t *testing.T) trained {
	t.Helper()
	opener := orttest.Opener(t)
	once.Do(func() {
		model = trained{dir: workDir}
		if model.manifest, model.records, failure = freeze(workDir, "headlines", func(split string) (io.ReadCloser, error) {
			return headlines.Files.Open(split + ".csv")
		}, "text=text,label=label,language=language"); failure != nil {
			return
		}
		spec, problems := trainer.ParseFile([]byte(`
apiVersion: galley/v1
kind: Train
name: float
task: text-classification
data: {dataset: headlines}
model: {layers: 1, hidden: 32, heads: 2, feed_forward: 64, max_length: 24, vocabulary: 2000, ngrams: {orders: 2, buckets: 4096, width: 16}}
recipe: {epochs: 5, batch_size: 16, optimizer: {lr: 3e-3}}
resources: {cpus: 1}
`), nil)
		if problems != nil {
			failure = problems
			return
		}
		result, err := engineonnx.Driver{Opener: opener}.Train(context.Background(), engine.Request{
			Job: "float", Attempt: 1, Spec: spec, Data: model.manifest, Records: model.records, WorkDir: filepath.Join(workDir, "float"),
		}, func(engine.Event) {})
		model.bundle, failure = result.Bundle, err
	})
	if failure != nil {
		t.Fatal(failure)
	}
	return model
}

// freeze makes record files of the splits train and valid.
func freeze(dir, name string, open func(split string) (io.ReadCloser, error), columns string) (*dataset.Manifest, map[string]string, error) {
	c, err := dataset.ParseColumns(columns)
	if err != nil {
		return nil, nil, err
	}
	input := func(split string) *dataset.Input {
		return &dataset.Input{Name: split + ".csv", Open: func() (io.ReadCloser, error) { return open(split) }}
	}
	records := map[string]string{}
	var files []*os.File
	m, _, err := dataset.Freeze(context.Background(), dataset.FreezeOptions{Name: name, Format: dataset.CSV, Columns: c, NeedLabel: true},
		dataset.Inputs{Train: input("train"), Valid: input("valid")}, func(s dataset.Split) (io.Writer, error) {
			path := filepath.Join(dir, name+"-"+string(s))
			w, err := os.Create(path)
			records[string(s)], files = path, append(files, w)
			return w, err
		})
	for _, w := range files {
		err = errors.Join(err, w.Close())
	}
	return m, records, err
}

func (m trained) request(t *testing.T, lines string) engine.Request {
	t.Helper()
	spec, problems := trainer.ParseFile([]byte("apiVersion: galley/v1\nkind: Quantize\nname: small\nfrom: float@1\nresources: {cpus: 1}\n"+lines), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	return engine.Request{Job: "small", Attempt: 1, Spec: spec, Data: m.manifest, Records: m.records, Parent: m.bundle, WorkDir: t.TempDir()}
}

func run(t *testing.T, r engine.Request) (engine.Result, []engine.Event, error) {
	t.Helper()
	var events []engine.Event
	result, err := quantize.Driver{Opener: orttest.Opener(t)}.Train(t.Context(), r, func(e engine.Event) { events = append(events, e) })
	return result, events, err
}

// written is what of quantization.json the tests read.
type written struct {
	Method    string
	Quantised []quantize.Site
	Float     []quantize.Left
	Ranges    map[string]quantize.Range
	Accuracy  struct{ Before, After, Drop float64 }
	SevenBits bool `json:"seven_bits"`
}

func read(t *testing.T, bundle string) written {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(bundle, quantize.ReportFile))
	if err != nil {
		t.Fatal(err)
	}
	var w written
	if err := json.Unmarshal(data, &w); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestDriver(t *testing.T) {
	if testing.Short() {
		t.Skip("quantises and measures a model seven times")
	}
	m := trainedModel(t)
	for _, lines := range []string{
		"method: dynamic\n",
		"method: static\n",
		"method: static\ncalibration: {ranges: entropy, rows: 64}\nactivations: {type: int8, symmetric: true}\nweights: {saturation: prevent}\n",
		"method: weight-only\nmax_drop: 5\n",
		"method: float16\n",
	} {
		t.Run(strings.ReplaceAll(strings.TrimSpace(lines), "\n", " "), func(t *testing.T) {
			r := m.request(t, lines)
			result, events, err := run(t, r)
			if err != nil {
				t.Fatal(err)
			}
			bundle, err := task.OpenBundleDir(result.Bundle)
			if err != nil {
				t.Fatal(err)
			}
			if g, err := onnx.ReadFile(bundle.ModelPath(), onnx.ReadOptions{}); err != nil || bundle.Config.CheckGraph(g.Graph.Inputs, g.Graph.Outputs) != nil {
				t.Error(err)
			}
			w := read(t, result.Bundle)
			if w.Method != r.Spec.Method || len(w.Quantised) < 5 || (len(w.Ranges) > 2) != (r.Spec.Method == "static") {
				t.Errorf("%+v", w)
			}
			if w.SevenBits != strings.Contains(lines, "prevent") && !quantize.Saturates() {
				t.Errorf("7 bits: %v", w.SevenBits)
			}
			got := result.Metrics
			if got["accuracy"] < .5 || got["accuracy"] != w.Accuracy.After || got["accuracy_drop"] > r.Spec.MaxDrop || got["size_ratio"] > .6 || got["latency_ratio"] <= 0 || got["agreement"] < .9 {
				t.Errorf("%v", got)
			}
			slower := strings.Contains(result.Withheld, "it is slower than float@1 on this machine")
			if result.Withheld != "" && !slower || slower && got["latency_ratio"] <= 1 {
				t.Errorf("withheld: %q, ratio %v", result.Withheld, got["latency_ratio"])
			}
			log, last := "", events[len(events)-1]
			for _, e := range events {
				log += e.Message + "\n"
				if e.Step > e.Steps {
					t.Errorf("step %d of %d", e.Step, e.Steps)
				}
			}
			if events[0].Kind != engine.Started || last.Kind != engine.Validated || last.Step != last.Steps || last.Step != result.Steps || last.Step == 0 {
				t.Errorf("%+v to %+v, %d steps", events[0], last, result.Steps)
			}
			for _, want := range []string{"accuracy drops by", "median latency at batch 1", "places quantised"} {
				if !strings.Contains(log, want) {
					t.Errorf("no word of %q in\n%s", want, log)
				}
			}
			if w.Ranges == nil {
				return // the graph is a function of the weights alone
			}
			again, _, err := run(t, m.request(t, lines))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{task.ModelFile, quantize.ReportFile} {
				a, errA := os.ReadFile(filepath.Join(result.Bundle, name))
				b, errB := os.ReadFile(filepath.Join(again.Bundle, name))
				if errA != nil || errB != nil || !slices.Equal(a, b) {
					t.Errorf("%s is another, made again: %v %v", name, errA, errB)
				}
			}
		})
	}
}

// altered copies the trained model with another graph.
func (m trained) altered(t *testing.T, change func(g *onnx.Graph)) string {
	t.Helper()
	bundle, err := task.OpenBundleDir(m.bundle)
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.ReadFile(bundle.ModelPath(), onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	change(g.Graph)
	dir := filepath.Join(t.TempDir(), "altered")
	if err := task.WriteBundle(dir, g, bundle.Config, bundle.Tokenizer); err != nil {
		t.Fatal(err)
	}
	return dir
}

// set writes a number into a tensor.
func set(x *onnx.Tensor, i int, v float32) {
	data := slices.Clone(x.Data)
	binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	x.Data = data
}

// TestDriverLeavesWhatCosts gives the table of tokens a row that no text uses
// and that leaves no step of one common scale for the others.
func TestDriverLeavesWhatCosts(t *testing.T) {
	m := trainedModel(t)
	m.bundle = m.altered(t, func(g *onnx.Graph) { set(g.Initializer("embeddings.tokens"), 4*32, 1e6) }) // [MASK]
	r := m.request(t, "method: dynamic\nweights: {per_channel: false}\nmax_drop: 1\n")
	result, events, err := run(t, r)
	if err != nil {
		t.Fatal(err)
	}
	w := read(t, result.Bundle)
	i := slices.IndexFunc(w.Float, func(l quantize.Left) bool { return l.Op == "Gather" && l.Cost > 0 })
	if i < 0 || !strings.Contains(w.Float[i].Why, "left to keep the drop within 1 points: alone it changes the outputs by") {
		t.Errorf("%+v", w.Float)
	}
	if result.Metrics["accuracy_drop"] > 1 || len(w.Quantised) < 4 {
		t.Errorf("%v, %d places", result.Metrics, len(w.Quantised))
	}
	said := false
	for _, e := range events {
		said = said || strings.Contains(e.Message, "more than 1: looking for those that cost most")
	}
	if !said {
		t.Error("the log does not say that it looks")
	}
}

func TestDriverRefuses(t *testing.T) {
	m := trainedModel(t)
	csv := func(train, valid string) func(split string) (io.ReadCloser, error) {
		return func(split string) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("text,label\n" + map[string]string{"train": train, "valid": valid}[split])), nil
		}
	}
	labels := slices.Clone(m.manifest.Labels)
	data := func(name, train, valid string) func(*engine.Request) {
		return func(r *engine.Request) {
			var err error
			if r.Data, r.Records, err = freeze(t.TempDir(), name, csv(train, valid), "text=text,label=label"); err != nil {
				t.Fatal(err)
			}
		}
	}
	one, two := "one text,"+labels[0]+"\n", "another text,"+labels[1]+"\n"
	many := ""
	for i := range 500 {
		many += fmt.Sprintf("text number %d,%s\n", i, labels[0])
	}
	for name, c := range map[string]struct {
		lines  string
		change func(r *engine.Request)
		code   galley.Code
		want   string
	}{
		"one class": {"method: static\ncalibration: {rows: 5}\n", data("single", many+two, one+two), galley.FailedPrecondition,
			`calibration: all 5 rows that were drawn from single have the label "` + labels[0] + `" — use data with all labels, or raise calibration.rows`},
		"one row": {"method: static\ncalibration: {rows: 1}\n", nil, galley.FailedPrecondition, "calibration: the only row that was drawn from headlines has the label"},
		"other labels": {"", data("other", "one text,nowhere\n"+two, two), galley.FailedPrecondition,
			`data: other has the label "nowhere", which the model does not know`},
		"no valid": {"", func(r *engine.Request) {
			r.Data = &dataset.Manifest{Name: "bare", Labels: labels, Splits: map[dataset.Split]dataset.SplitInfo{dataset.Train: r.Data.Splits[dataset.Train]}}
		}, galley.FailedPrecondition, "data: bare has no rows in its split valid to measure the drop of accuracy on"},
		"no rows": {"method: static\n", func(r *engine.Request) {
			r.Data = &dataset.Manifest{Name: "bare", Labels: labels}
		}, galley.FailedPrecondition, "data: bare has no rows in its split train to calibrate with"},
		"no classifier": {"", func(r *engine.Request) {
			r.Parent = t.TempDir()
		}, galley.FailedPrecondition, "from: float@1 is no text-classification model"},
		"not finite": {"method: static\n", func(r *engine.Request) {
			r.Parent = m.altered(t, func(g *onnx.Graph) { set(g.Initializer("embeddings.norm.scale"), 0, float32(math.Inf(1))) })
		}, galley.FailedPrecondition, "numbers that are not finite on the calibration rows"},
		"quantised already": {"method: dynamic\n", func(r *engine.Request) {
			result, _, err := run(t, m.request(t, "method: dynamic\n"))
			if err != nil {
				t.Fatal(err)
			}
			r.Parent = result.Bundle
		}, galley.FailedPrecondition, "nothing in the graph can be quantised by method dynamic: it is quantised already — choose the version that it was made of"},
	} {
		t.Run(name, func(t *testing.T) {
			r := m.request(t, c.lines)
			if c.change != nil {
				c.change(&r)
			}
			result, _, err := run(t, r)
			if galley.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v %v", result, err)
			}
		})
	}
}

func TestDriverStops(t *testing.T) {
	m := trainedModel(t)
	r := m.request(t, "method: static\n")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := quantize.Driver{Opener: orttest.Opener(t)}.Train(ctx, r, func(e engine.Event) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	_, _, err = run(t, r) // the next attempt, in the same folder
	if err != nil {
		t.Error(err)
	}
}
