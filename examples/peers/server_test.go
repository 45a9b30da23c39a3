package peers_test

import (
	"bufio"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A server is `galley up` in a process of its own.
type server struct {
	cmd     *exec.Cmd
	home    string
	address string // of its gRPC APIs
	ended   chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

var readyLine = regexp.MustCompile(`^ready .*\bgrpc=(\S+)`)

// startServer starts a server on a home and waits until it serves. The lock
// of one that was killed may outlive it for a moment, with a child that it
// was just forking.
func startServer(t *testing.T, home string) *server {
	t.Helper()
	path := program(t)
	var log string
	for range 20 {
		s := &server{home: home, ended: make(chan struct{})}
		s.cmd = exec.Command(path, "up", "--home", home,
			"--listen-http", "127.0.0.1:0", "--listen-grpc", "127.0.0.1:0", "--listen-metrics", "127.0.0.1:0")
		stderr, err := s.cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ready := make(chan string, 1)
		go s.read(stderr, ready)
		select {
		case s.address = <-ready:
			return s
		case <-s.ended:
			log = s.said()
			time.Sleep(100 * time.Millisecond)
		case <-time.After(time.Minute):
			s.kill()
			t.Fatalf("the server is not ready after a minute: %s", s.said())
		}
	}
	t.Fatalf("no server: %s", log)
	return nil
}

// read keeps what the server says, and waits for its end.
func (s *server) read(stderr io.Reader, ready chan<- string) {
	defer close(s.ended)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		s.mu.Lock()
		s.log.WriteString(lines.Text() + "\n")
		s.mu.Unlock()
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			ready <- m[1]
		}
	}
	_ = s.cmd.Wait()
}

func (s *server) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// call runs a command against the server and reads its JSON.
func (s *server) call(t *testing.T, out any, args ...string) {
	t.Helper()
	call(t, s.home, s.address, out, args...)
}

// kill ends the server at once, and waits for its death.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.ended
}

// stop ends the server politely, and returns its exit status.
func (s *server) stop() int {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		s.kill()
	}
	return s.cmd.ProcessState.ExitCode()
}
