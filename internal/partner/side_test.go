package partner

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"galley/dataset"
	"galley/federation"
)

// A side is a partner with its home, its rows and its log.
type side struct {
	t        testing.TB
	c        *coordinator
	name     string
	dir      string
	rows     string
	identity Identity
	double   *trainingDouble
	log      *journal
	now      func() time.Time
	dial     []grpc.DialOption
}

// newSide makes a partner that has joined.
func newSide(t testing.TB, c *coordinator, name string, change ...string) *side {
	t.Helper()
	dir := t.TempDir()
	s := &side{t: t, c: c, name: name, dir: filepath.Join(dir, "agent"), double: &trainingDouble{}, log: &journal{}, now: time.Now}
	s.rows = write(t, dir, "rows.csv", []byte(rowsCSV))
	var err error
	if s.identity, _, err = Keygen(s.dir, name, 30, time.Now()); err != nil {
		t.Fatal(err)
	}
	c.enrol(s.identity)
	if err := s.join(change...); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *side) join(change ...string) error {
	j := Joining{Agreement: agreementText(s.name, change...), Coordinator: s.c.address, Server: s.c.crt, Dial: s.dial}
	_, err := Join(s.t.Context(), s.dir, j, "test", s.now)
	return err
}

func (s *side) options() Options {
	return Options{
		Home: s.dir, Rows: Rows{Train: s.rows, Format: dataset.CSV, Seed: 1}, Launcher: s.double, Version: "test", Log: s.log.logger(), Now: s.now,
		Pause: 5 * time.Millisecond, Dial: s.dial,
	}
}

// serve runs the agent until stop, which returns its error.
func (s *side) serve(change func(*Options)) (stop func() error) {
	s.t.Helper()
	o := s.options()
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, o) }()
	stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		s.c.forget(s.name)
		return err
	}
	s.t.Cleanup(func() { _ = stop() })
	return stop
}

func (s *side) ledger() federation.Ledger {
	s.t.Helper()
	l, err := (&home{dir: s.dir}).ledger()
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// answered is how many rounds were.
func (s *side) answered() int { return answered(s.ledger(), "headlines") }

func (s *side) sent(what string) (found []Sent) {
	s.t.Helper()
	all, err := lastSent(s.dir, 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range all {
		if e.What == what {
			found = append(found, e)
		}
	}
	return found
}

// files lists a folder of the home.
func (s *side) files(folder string) (names []string) {
	entries, _ := os.ReadDir(filepath.Join(s.dir, folder))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// leaks reports what of the partner's rows is in a text.
func leaks(text string) string {
	for _, word := range []string{"weather", "late", "rates", "tomorrow", "rows.csv"} {
		if strings.Contains(text, word) {
			return word
		}
	}
	return ""
}
