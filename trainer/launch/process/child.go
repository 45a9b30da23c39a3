package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"galley"
	"galley/trainer"
	"galley/trainer/launch"
)

const (
	defaultGrace = time.Minute
	// linger is how long a pipe of a child that has exited may stay open with
	// nothing in it: a process that it left behind may hold it.
	linger = 2 * time.Second
	// left is the most that is read of a pipe after its child has exited: more
	// than a pipe holds, so that the child's last message is among it.
	left = 4 << 20
)

// A tail reads a pipe to what a child wrote last. Once the child has exited, it
// ends when nothing comes any more, however long who reads it takes.
type tail struct {
	file   *os.File
	exited atomic.Bool
	read   int64 // since it noticed; of the reader
}

func (t *tail) Read(p []byte) (int, error) {
	exited := t.exited.Load()
	if exited {
		if t.read > left {
			return 0, io.EOF
		}
		_ = t.file.SetReadDeadline(time.Now().Add(linger))
	}
	n, err := t.file.Read(p)
	if exited {
		t.read += int64(n)
	}
	return n, err
}

// exit says that the child has exited, also to a read that waits.
func (t *tail) exit() {
	t.exited.Store(true)
	_ = t.file.SetReadDeadline(time.Now().Add(linger))
}

// A child is an attempt in a process of its own.
type child struct {
	pipes   *pipes
	events  tail
	log     tail
	grace   time.Duration
	reports chan launch.Report
	readers sync.WaitGroup

	process *os.Process
	starved int64 // processes that the system had killed for memory before
	killed  atomic.Bool
	stopped atomic.Bool
	stops   sync.Once

	final *message // the result or the error; of readMessages
	last  string   // line of the log, or the one that names a crash; of readLog

	done    chan struct{}
	outcome launch.Outcome // once done
}

func newChild(p *pipes, grace time.Duration) *child {
	if grace <= 0 {
		grace = defaultGrace
	}
	c := &child{pipes: p, grace: grace, reports: make(chan launch.Report, 64), done: make(chan struct{})}
	c.events.file, c.log.file = p.events, p.log
	c.readers.Add(2)
	return c
}

func (c *child) Reports() <-chan launch.Report { return c.reports }

// Stop sends SIGTERM, and kills a child that is still there after the grace.
func (c *child) Stop() {
	c.stops.Do(func() {
		c.stopped.Store(true)
		_ = c.process.Signal(syscall.SIGTERM) // it may have ended
		go func() {
			select {
			case <-c.done:
			case <-time.After(c.grace):
				c.Kill()
			}
		}()
	})
}

// Kill kills the child and what it started.
func (c *child) Kill() {
	select {
	case <-c.done:
	default:
		c.killed.Store(true)
		killGroup(c.process)
	}
}

func (c *child) Wait() launch.Outcome {
	<-c.done
	return c.outcome
}

// feed sends the request; stdin stays open until the child ends.
func (c *child) feed(request []byte) {
	_, _ = c.pipes.request.Write(request) // a child that does not read it has ended
}

// readMessages passes on events and keeps the final message.
func (c *child) readMessages() {
	defer c.readers.Done()
	lines := bufio.NewScanner(&c.events)
	lines.Buffer(make([]byte, 0, 4096), maxMessage)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			continue // cut off by the child's death
		}
		if m.Alive {
			c.reports <- launch.Report{At: time.Now()}
		} else if m.Event != nil {
			c.reports <- launch.Report{At: time.Now(), Event: m.Event}
		} else if c.final == nil && (m.Result != nil || m.Error != nil) {
			c.final = &m
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		c.final = &message{Error: galley.Errorf(galley.Internal, "attempt", "it reported a message of more than %d bytes", maxMessage)}
		c.Kill()
		_, _ = io.Copy(io.Discard, &c.events)
	}
}

// readLog passes on the lines of the log, each cut to maxLine.
func (c *child) readLog() {
	defer c.readers.Done()
	r := bufio.NewReaderSize(&c.log, maxLine)
	for {
		line, more, err := r.ReadLine()
		if err != nil {
			return
		}
		text := strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n "), "\uFFFD")
		for more && err == nil {
			_, more, err = r.ReadLine()
		}
		if text == "" {
			continue
		}
		if !namesCrash(c.last) {
			c.last = text
		}
		c.reports <- launch.Report{At: time.Now(), Line: text}
	}
}

// namesCrash reports whether a line begins the report of a crash that C++ or Go's
// runtime writes; a long trace follows it.
func namesCrash(line string) bool {
	return hasAnyPrefix(line, []string{"panic: ", "fatal error: ", "terminate called ", "SIG"})
}

// exited settles the outcome of a child that ended with err.
func (c *child) exited(err error) {
	killGroup(c.process)
	c.events.exit()
	c.log.exit()
	c.readers.Wait()
	close(c.reports)
	c.pipes.close()
	switch {
	case c.final == nil && c.stopped.Load() && endedBy(err, syscall.SIGTERM):
		// It was asked to stop before it could listen.
		c.outcome = launch.Outcome{Ending: launch.Stopped, Err: galley.Errorf(galley.Canceled, "attempt", "was stopped before it began")}
	case c.final == nil:
		cause, why := c.crash(err)
		c.outcome = launch.Outcome{Ending: launch.Crashed, Cause: cause, Err: why}
	case c.final.Result != nil:
		c.outcome = launch.Outcome{Ending: launch.Finished, Result: *c.final.Result}
	case c.final.Error.Code == galley.Canceled:
		c.outcome = launch.Outcome{Ending: launch.Stopped, Err: c.final.Error}
	case lacksMemory(c.final.Error.Error()):
		c.outcome = launch.Outcome{Ending: launch.Crashed, Cause: trainer.OutOfMemory, Err: noMemory(c.final.Error.Message)}
	default:
		c.outcome = launch.Outcome{Ending: launch.Failed, Err: c.final.Error}
	}
	close(c.done)
}

// crash says how and why a child that said nothing ended.
func (c *child) crash(err error) (trainer.Cause, *galley.Error) {
	const subject = "attempt"
	if c.killed.Load() {
		return trainer.Killed, galley.Errorf(galley.Aborted, subject, "its process was killed by the server")
	}
	s, signaled := signalOf(err)
	if !signaled {
		how := "without a result"
		if err != nil {
			how += " (" + err.Error() + ")"
		}
		if lacksMemory(c.last) {
			return trainer.OutOfMemory, noMemory(c.last)
		}
		return trainer.Died, galley.Errorf(galley.Internal, subject, "its process ended %s%s", how, c.lastWords()).
			WithRemedy("look at the log: galley jobs logs")
	}
	switch s {
	case syscall.SIGKILL:
		now, counted := memoryKills()
		switch {
		case counted && now > c.starved:
			return trainer.OutOfMemory, noMemory("the system killed its process (SIGKILL)")
		case counted:
			return trainer.Killed, galley.Errorf(galley.Aborted, subject, "its process was killed from outside (SIGKILL)")
		default:
			return trainer.Killed, galley.Errorf(galley.Aborted, subject, "its process was killed (SIGKILL), maybe because the machine ran out of memory").
				WithRemedy(memoryRemedy)
		}
	case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGABRT, syscall.SIGILL, syscall.SIGFPE:
		if lacksMemory(c.last) { // a C++ exception that no one caught
			return trainer.OutOfMemory, noMemory(c.last)
		}
		return trainer.Died, galley.Errorf(galley.Internal, subject, "its process crashed in native code (%v)%s", s, c.lastWords()).
			WithRemedy("look at the log: galley jobs logs")
	default:
		return trainer.Killed, galley.Errorf(galley.Aborted, subject, "its process was ended by a signal (%v)%s", s, c.lastWords())
	}
}

// signalOf returns the signal that ended a process whose Wait gave err.
func signalOf(err error) (syscall.Signal, bool) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return status.Signal(), ok && status.Signaled()
}

func endedBy(err error, s syscall.Signal) bool {
	got, ok := signalOf(err)
	return ok && got == s
}

func (c *child) lastWords() string {
	if c.last == "" {
		return ""
	}
	return "; its last words: " + galley.Clip(c.last, 300)
}
