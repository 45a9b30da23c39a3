package probe

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"galley"
	"galley/internal/durable"
)

// Bounds of a probe: a model has its size for each of the forms that it takes
// on its way (file, parsed, laid out anew), and what the process itself needs.
const (
	maxTime     = 2 * time.Minute
	copies      = 4
	ownMemory   = 1 << 30
	maxChildren = 2
	maxVerdict  = 64 << 10
)

// again is how long a model that failed is not tried again: whoever asks for
// it is not to keep the machine busy.
const again = time.Minute

// A Prober tries models in child processes. It remembers what came of it, and
// may be used by several goroutines at once.
type Prober struct {
	args []string

	time     time.Duration
	children chan struct{}

	mu    sync.Mutex
	tried map[galley.Digest]result
}

// A result is what came of a model, and when.
type result struct {
	err error
	at  time.Time
}

// New makes a prober whose children are processes of this program, started
// with args, which make it call Main.
func New(args ...string) *Prober {
	return &Prober{args: args, time: maxTime, children: make(chan struct{}, maxChildren), tried: map[galley.Digest]result{}}
}

// Check tries the model in the file at path, unless one of the same digest has
// passed before, or failed just now. The error is the runtime's own if it
// refuses the model, FailedPrecondition if the child crashed, took too long or
// ran out of memory.
func (p *Prober) Check(ctx context.Context, digest galley.Digest, path, label string) error {
	if r, ok := p.result(digest); ok {
		return r.err
	}
	select {
	case p.children <- struct{}{}:
		defer func() { <-p.children }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r, ok := p.result(digest); ok { // of who was first
		return r.err
	}
	err := p.run(ctx, path, label)
	if ctx.Err() != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried[digest] = result{err, time.Now()}
	return err
}

// result is what is known of a model.
func (p *Prober) result(digest galley.Digest) (result, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.tried[digest]
	return r, ok && (r.err == nil || time.Since(r.at) < again)
}

// Unreadable is the error of a model whose file cannot be read. One that is
// gone is lost; a disk that fails may do better the next time.
func Unreadable(label string, err error) error {
	e := galley.AsError(durable.ReadError("", err))
	if e.Code == galley.NotFound {
		e.Code, e.Remedy = galley.DataLoss, "restore a backup, or make the version again; its lineage says how"
	}
	return galley.Errorf(e.Code, label, "its graph cannot be read: %w", err).WithRemedy("%s", e.Remedy)
}

func (p *Prober) run(ctx context.Context, path, label string) error {
	info, err := os.Stat(path)
	if err != nil {
		return Unreadable(label, err)
	}
	program, err := os.Executable()
	if err != nil {
		return galley.Errorf(galley.Internal, label, "cannot be tried: %w", err)
	}
	memory := uint64(ownMemory) + copies*uint64(info.Size())
	asked, err := json.Marshal(request{Path: path, Label: label, Memory: memory})
	if err != nil {
		return galley.Errorf(galley.Internal, label, "cannot be tried: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, p.time)
	defer cancel()
	cmd := exec.CommandContext(limited, program, p.args...)
	cmd.WaitDelay = time.Second // for its pipes, once it is killed
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GALLEY_TOKEN=") && !strings.HasPrefix(v, "GALLEY_HOME=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return galley.Errorf(galley.Internal, label, "cannot be tried: %w", err)
	}
	defer in.Close()
	var said, complaint head
	cmd.Stdout, cmd.Stderr = &said, &complaint
	if err := cmd.Start(); err != nil {
		return galley.Errorf(galley.Internal, label, "cannot be tried: %w", err)
	}
	// A child that does not read it has ended, which Wait tells.
	_, _ = in.Write(append(asked, '\n'))
	err = cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if limited.Err() != nil {
		return galley.Errorf(galley.FailedPrecondition, label, "its graph was not loaded and run once within %v", p.time).
			WithRemedy("it was tried in a process of its own and is not served; look at the graph for loops that do not end")
	}
	var v verdict
	if json.Unmarshal(said.bytes, &v) == nil && err == nil {
		if v.Error != nil {
			return v.Error
		}
		return nil
	}
	return p.crashed(label, memory, err, complaint.bytes)
}

// crashed words the end of a child without a verdict.
func (p *Prober) crashed(label string, memory uint64, err error, complaint []byte) error {
	text := string(complaint)
	if strings.Contains(text, "out of memory") || strings.Contains(text, "bad_alloc") || strings.Contains(text, "cannot allocate memory") {
		return galley.Errorf(galley.FailedPrecondition, label, "loading its graph and running it once needs more than %d MiB", memory>>20).
			WithRemedy("it was tried in a process of its own and is not served; look at the graph for tensors larger than the model")
	}
	how := "without a word"
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		how = exit.String()
	}
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if first != "" {
		how += ": " + first
	}
	return galley.Errorf(galley.FailedPrecondition, label, "loading its graph crashed the process that tried it (%s)", how).
		WithRemedy("it is not served; check the graph with another build of ONNX Runtime, or export it anew")
}

// A head keeps the beginning of what is written to it.
type head struct{ bytes []byte }

func (h *head) Write(p []byte) (int, error) {
	h.bytes = append(h.bytes, p[:min(len(p), maxVerdict-len(h.bytes))]...)
	return len(p), nil
}
