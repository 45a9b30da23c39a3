package process

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"galley"
	"galley/internal/processors"
	"galley/trainer/engine"
	"galley/trainer/launch"
)

// A Launcher starts attempts as child processes.
type Launcher struct {
	Path  string        // the program; empty for the running one
	Args  []string      // that make it call Main
	Grace time.Duration // between Stop and the kill; 1 minute if 0
}

var _ launch.Launcher = Launcher{}

// hidden are variables that an attempt has no business with.
var hidden = []string{"GALLEY_HOME=", "GALLEY_TOKEN=", "GALLEY_SERVER="}

// Start starts an attempt; see launch.Launcher.
func (l Launcher) Start(ctx context.Context, r engine.Request) (launch.Attempt, error) {
	request, err := json.Marshal(r)
	if err != nil {
		return nil, galley.Errorf(galley.Internal, "attempt", "its request cannot be written: %w", err)
	}
	if len(request) > maxRequest {
		return nil, galley.Errorf(galley.ResourceExhausted, "attempt", "its request has %d bytes", len(request))
	}
	path := l.Path
	if path == "" {
		if path, err = os.Executable(); err != nil {
			return nil, notStarted(err)
		}
	}
	cmd := exec.Command(path, l.Args...)
	for _, v := range os.Environ() {
		if !hasAnyPrefix(v, hidden) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.SysProcAttr = attributes()
	p, err := connect(cmd)
	if err != nil {
		return nil, notStarted(err)
	}
	c := newChild(p, l.Grace)
	started := make(chan error)
	go c.run(cmd, started)
	if err := <-started; err != nil {
		p.close()
		return nil, notStarted(err)
	}
	go c.feed(append(request, '\n'))
	unbind := context.AfterFunc(ctx, c.Kill)
	go func() {
		<-c.done
		unbind()
	}()
	return c, nil
}

func notStarted(err error) error {
	return diskError("attempt", galley.Errorf(galley.Unavailable, "attempt", "its process cannot be started: %w", err))
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// pipes are the parent's ends of what connects it with a child, and the
// child's.
type pipes struct {
	request, events, log *os.File
	child                []*os.File
}

func connect(cmd *exec.Cmd) (p *pipes, err error) {
	p = &pipes{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	stdin, request := pipe()
	events, fd3 := pipe()
	log, stderr := pipe()
	p.request, p.events, p.log = request, events, log
	p.child = []*os.File{stdin, fd3, stderr}
	if err != nil {
		return p, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stderr, stderr
	cmd.ExtraFiles = []*os.File{fd3}
	return p, nil
}

// close closes every end that is open.
func (p *pipes) close() {
	p.closeChild()
	for _, f := range []*os.File{p.request, p.events, p.log} {
		f.Close() // a nil or closed file says so, which is all right
	}
}

func (p *pipes) closeChild() {
	for _, f := range p.child {
		f.Close()
	}
}

// run starts the child and waits for its end. It keeps its thread: Linux
// sends the parent's death signal when the thread that started the child
// ends.
func (c *child) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.starved, _ = memoryKills()
	err := processors.Start(cmd)
	if err == nil {
		c.process = cmd.Process
	}
	started <- err
	if err != nil {
		return
	}
	c.pipes.closeChild()
	go c.readMessages()
	go c.readLog()
	c.exited(cmd.Wait())
}
