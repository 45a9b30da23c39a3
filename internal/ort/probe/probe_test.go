package probe

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"galley"
	"galley/internal/ort/orttest"
	"galley/onnx"
)

// mode tells a child what it is in a test: "child", or how it dies.
const mode = "GALLEY_TEST_PROBE"

// TestChild is the child's main.
func TestChild(t *testing.T) {
	switch os.Getenv(mode) {
	case "child":
		os.Exit(Main(orttest.Opener(t), os.Stdin, os.Stdout))
	case "crash":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		time.Sleep(time.Minute)
	case "exit":
		os.Exit(0)
	}
}

func model(t *testing.T, build func(b *onnx.Builder)) string {
	t.Helper()
	g := &onnx.Graph{Name: "test"}
	build(onnx.NewBuilder(g))
	data, err := onnx.Marshal(&onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": 17}, Graph: g})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	orttest.Opener(t) // or skip
	vector := onnx.Shape{onnx.Symbol("n"), {Size: 3}}
	fine := model(t, func(b *onnx.Builder) {
		b.Input("s", onnx.String, vector)
		b.Output(b.Op("Add", b.Input("x", onnx.Float, vector), b.Float(1)), onnx.Float, vector)
		b.Output(b.Op("Identity", "s"), onnx.String, vector)
	})
	garbage := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(garbage, []byte("not a model"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := garbage + ".not"
	for name, c := range map[string]struct {
		mode, path string
		time       time.Duration
		code       galley.Code
		says       string
	}{
		"fine":    {"child", fine, maxTime, "", ""},
		"garbage": {"child", garbage, maxTime, galley.InvalidArgument, "cannot be loaded"},
		"missing": {"child", missing, maxTime, galley.DataLoss, "cannot be read"},
		// Its first run fails for what it was given: that is no one's fault.
		"refuses zeros": {"child", model(t, func(b *onnx.Builder) {
			b.Output(b.Op("Reshape", b.Input("x", onnx.Float, vector), b.Input("shape", onnx.Int64, onnx.Shape{{Size: 1}})), onnx.Float, nil)
		}), maxTime, "", ""},
		"takes all memory": {"child", model(t, func(b *onnx.Builder) {
			x := b.Op("Expand", b.Input("x", onnx.Float, onnx.Shape{{Size: 1}}), b.Ints(1<<20, 1<<16))
			b.Output(b.Op("ReduceMax", x), onnx.Float, nil)
		}), maxTime, galley.FailedPrecondition, "memory"},
		"hangs": {"child", model(t, func(b *onnx.Builder) {
			scalar := onnx.Shape{}
			body := &onnx.Graph{Name: "body",
				Inputs:  []onnx.Value{{Name: "step", Type: onnx.Int64, Shape: scalar}, {Name: "more", Type: onnx.Bool, Shape: scalar}, {Name: "m", Type: onnx.Float, Shape: scalar}},
				Outputs: []onnx.Value{{Name: "more2", Type: onnx.Bool, Shape: scalar}, {Name: "m2", Type: onnx.Float, Shape: scalar}},
				Nodes: []*onnx.Node{
					{Name: "again", Op: "Identity", Inputs: []string{"more"}, Outputs: []string{"more2"}},
					{Name: "cos", Op: "Cos", Inputs: []string{"m"}, Outputs: []string{"m2"}},
				}}
			b.Graph.Nodes = append(b.Graph.Nodes, &onnx.Node{Name: "loop", Op: "Loop",
				Inputs:  []string{b.Int(math.MaxInt64), b.Op("Not", b.Input("stop", onnx.Bool, scalar)), b.Input("x", onnx.Float, scalar)},
				Outputs: []string{"r"}, Attrs: map[string]onnx.Attr{"body": body}})
			b.Output("r", onnx.Float, scalar)
		}), time.Second, galley.FailedPrecondition, "within 1s"},
		"crashes":      {"crash", fine, maxTime, galley.FailedPrecondition, "crashed"},
		"says nothing": {"exit", fine, maxTime, galley.FailedPrecondition, "without a word"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(mode, c.mode)
			p := New("-test.run=^TestChild$")
			p.time = c.time
			begun := time.Now()
			err := p.Check(t.Context(), "sha256:a", c.path, "news@1")
			t.Logf("%v after %v", err, time.Since(begun).Round(time.Millisecond))
			if galley.CodeOf(err) != c.code || err != nil && (!strings.Contains(err.Error(), c.says) || galley.AsError(err).Subject != "news@1") {
				t.Errorf("got %s: %v", galley.CodeOf(err), err)
			}
			if c.code == galley.FailedPrecondition && galley.AsError(err).Remedy == "" {
				t.Error("the error says not what to do")
			}
			// It is not tried again; what failed is, after a while.
			t.Setenv(mode, "exit")
			if again := p.Check(t.Context(), "sha256:a", c.path, "news@1"); again != err {
				t.Errorf("again: %v", again)
			}
			p.time = maxTime
			p.tried["sha256:a"] = result{err, time.Now().Add(-again)}
			if later := p.Check(t.Context(), "sha256:a", c.path, "news@1"); err == nil && later != nil ||
				err != nil && c.path != missing && !strings.Contains(later.Error(), "without a word") {
				t.Errorf("later: %v", later)
			}
		})
	}
}
