package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"galley"
	"galley/trainer/engine"
	"galley/trainer/launch"
)

// eventsFD is the descriptor that the child writes messages to.
const eventsFD = 3

// Main is the child's whole program: it runs the attempt that its parent asks
// for on stdin, and returns the exit status.
func Main(drivers engine.Drivers) int {
	events := os.NewFile(eventsFD, "events")
	if _, err := events.Stat(); err != nil {
		fmt.Fprintln(os.Stderr, "galley attempt is started by the server, not by hand")
		return 2
	}
	syscall.CloseOnExec(eventsFD)
	preferKilled()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Serve(ctx, drivers, os.Stdin, events); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Serve reads a request, runs its attempt and writes what it reports, with a
// result or an error at the end. The process exits at once if the parent
// closes in. An error is returned only if the parent could not be told.
func Serve(ctx context.Context, drivers engine.Drivers, in io.Reader, events io.Writer) error {
	w := &writer{w: events}
	done := make(chan struct{})
	go w.beat(done)
	result, err := attempt(ctx, drivers, in, w)
	close(done)
	if err != nil {
		return w.write(message{Error: galley.AsError(err)})
	}
	return w.write(message{Result: &result})
}

func attempt(ctx context.Context, drivers engine.Drivers, in io.Reader, w *writer) (result engine.Result, err error) {
	request, err := readRequest(in)
	if err != nil {
		return result, err
	}
	driver, err := drivers.For(request.Spec)
	if err != nil {
		return result, err
	}
	if err := os.MkdirAll(request.WorkDir, 0o755); err != nil {
		return result, diskError(request.WorkDir, err)
	}
	unlock, err := lockFolder(ctx, request.WorkDir)
	if err != nil {
		return result, err
	}
	defer unlock()
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n%s", p, debug.Stack())
			err = galley.Errorf(galley.Internal, "engine "+driver.Name(), "failed in itself: %v", p).
				WithRemedy("the log has the details; please report them")
		}
	}()
	result, err = driver.Train(ctx, request, func(e engine.Event) {
		// A parent that is gone ends the process elsewhere.
		_ = w.write(message{Event: &e})
	})
	return result, diskError(request.WorkDir, err)
}

// readRequest reads the request's line and then watches for the end of in.
func readRequest(in io.Reader) (r engine.Request, err error) {
	buffered := bufio.NewReader(in)
	limited := &io.LimitedReader{R: buffered, N: maxRequest}
	dec := json.NewDecoder(limited)
	if err := dec.Decode(&r); err != nil {
		return r, galley.Errorf(galley.Internal, "request", "of the attempt cannot be read: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, buffered)
		os.Exit(1)
	}()
	return r, nil
}

// diskError says plainly that the disk is full or not writable; other errors
// pass.
func diskError(folder string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return galley.Errorf(galley.ResourceExhausted, folder, "the disk is full: %w", err).
			WithRemedy("make room, then resume the job: its last checkpoint is kept")
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES):
		return galley.Errorf(galley.FailedPrecondition, folder, "cannot be written: %w", err).
			WithRemedy("give the server the right to write there, then resume the job")
	default:
		return err
	}
}

// A writer writes messages, one at a time.
type writer struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *writer) write(m message) error {
	line, err := m.encode()
	if err != nil {
		return err
	}
	if len(line) > maxMessage {
		return galley.Errorf(galley.Internal, "message", "of the attempt has %d bytes", len(line))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = w.w.Write(line)
	return err
}

// beat writes a sign of life every launch.Heartbeat until done.
func (w *writer) beat(done <-chan struct{}) {
	ticks := time.NewTicker(launch.Heartbeat)
	defer ticks.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticks.C:
			_ = w.write(message{Alive: true}) // as with events
		}
	}
}
