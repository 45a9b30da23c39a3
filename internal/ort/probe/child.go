package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"

	"galley"
	"galley/onnx"
	"galley/onnx/session"
)

// A request is what a child is to try.
type request struct {
	Path   string `json:"path"` // of the graph
	Label  string `json:"label"`
	Memory uint64 `json:"memory"` // bytes that the child may have
}

// A verdict is what came of it; no error means that the model can be opened.
type verdict struct {
	Error *galley.Error `json:"error,omitempty"`
}

// maxElements bounds an input that is made up. A graph that takes more is only
// loaded.
const maxElements = 16 << 20

// Main is the child. It returns the exit code.
func Main(opener session.Opener, in io.Reader, out io.Writer) int {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return 1
	}
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return 1
	}
	go func() {
		_, _ = lines.ReadByte() // until the parent is gone
		os.Exit(1)
	}()
	if err := limitMemory(r.Memory); err != nil {
		return 1
	}
	var v verdict
	if err := try(context.Background(), opener, r); err != nil {
		v.Error = galley.AsError(err)
	}
	if err := json.NewEncoder(out).Encode(v); err != nil {
		return 1
	}
	return 0
}

// try opens the model and runs it once. The run may fail: what it is given is
// made up. It may not ask for more memory than there is.
func try(ctx context.Context, opener session.Opener, r request) error {
	s, err := opener.OpenFile(ctx, r.Path, session.Options{Threads: 1, NoMemoryPattern: true, NoSpinning: true, Label: r.Label})
	if err != nil {
		return err
	}
	defer s.Close()
	inputs, ok := zeros(s.Inputs())
	if !ok {
		return nil
	}
	outputs, err := s.Run(ctx, inputs)
	if err != nil && outOfMemory(err) {
		return galley.Errorf(galley.FailedPrecondition, r.Label, "its first run needs too much memory: %w", err).
			WithRemedy("the probe allowed %d MiB; a graph that is to be served needs less for its smallest inputs", r.Memory>>20)
	}
	for _, t := range outputs {
		t.Close()
	}
	return nil
}

// outOfMemory reports whether the runtime could not get memory; it has no code
// for that.
func outOfMemory(err error) bool {
	message := strings.ToLower(err.Error())
	return strings.Contains(message, "bad_alloc") || strings.Contains(message, "bad allocation") || strings.Contains(message, "allocate memory")
}

// zeros makes inputs of the smallest shapes that a graph takes.
func zeros(values []onnx.Value) (map[string]*session.Tensor, bool) {
	inputs := map[string]*session.Tensor{}
	for _, v := range values {
		shape, n := make([]int64, len(v.Shape)), int64(1)
		for i, d := range v.Shape {
			shape[i] = max(d.Size, 0)
			if d.Size < 0 {
				shape[i] = 1
			}
			if n *= shape[i]; n > maxElements {
				return nil, false
			}
		}
		if v.Type == onnx.String {
			t, err := session.NewStrings(make([]string, n), shape...)
			if err != nil {
				return nil, false
			}
			inputs[v.Name] = t
			continue
		}
		inputs[v.Name] = session.FromMemory(v.Type, shape, make([]byte, (n*v.Type.Bits()+7)/8), nil)
	}
	return inputs, true
}
