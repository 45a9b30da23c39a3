package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"galley/internal/partner"
	"galley/registry"
)

// An institution is a partner in a process of its own.
type institution struct {
	t             *testing.T
	name          string
	home, runtime string
	rows          string

	process *os.Process
	ended   chan struct{}
	log     lockedBuffer
}

// serve starts the agent.
func (p *institution) serve() {
	p.t.Helper()
	c := exec.Command("galley", "partner", "serve", "--home", p.home, "--data", p.rows)
	c.Env = append(os.Environ(), "GALLEY_ORT_LIB="+p.runtime)
	stderr, err := c.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	p.process, p.ended = c.Process, ended
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(&p.log, lines.Text())
		}
		_ = c.Wait() // it is killed
	}()
}

// end ends the agent by a signal.
func (p *institution) end(s syscall.Signal) {
	_ = p.process.Signal(s)
	<-p.ended
}

// does reports whether the agent is in a state.
func (p *institution) does(state string) bool {
	s, err := partner.ReadStatus(p.home)
	return err == nil && s.Doing != nil && s.Doing.State == state
}

// sent is the record of what left.
func (p *institution) sent() (all []partner.Sent) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.home, "sent.jsonl"))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var s partner.Sent
		if json.Unmarshal(line, &s) == nil {
			all = append(all, s)
		}
	}
	return all
}

func galleyCommand(t *testing.T, runtime string, args ...string) {
	t.Helper()
	c := exec.Command("galley", args...)
	c.Env = append(os.Environ(), "GALLEY_ORT_LIB="+runtime)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// freeAddress is one that a server has again after it was killed.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Three partners train a model together in three rounds. One is killed in the
// middle of a round, and so is the coordinator in the middle of another; no
// round is lost, none counts twice, and no partner answers an attempt twice.
func TestKilledFederation(t *testing.T) {
	if testing.Short() {
		t.Skip("trains in four processes for many seconds")
	}
	h := &trainedHome{t: t, runtime: runtimePath(t)}
	if h.runtime == "" {
		t.Skip("ONNX Runtime is not here")
	}
	if h.make(); h.err != nil {
		t.Fatal(h.err)
	}
	home, port := filepath.Join(h.dir, "home"), freeAddress(t)
	s := spawnServer(t, home, h.runtime, "--partners", port)
	t.Cleanup(func() { s.drain(t) })
	partners := institutions(t, h, s, port)
	job := filepath.Join(h.dir, "federate.yaml")
	err := os.WriteFile(job, []byte("apiVersion: galley/v1\nkind: Federate\nname: joint\nfrom: news@1\nfederation: news\npurpose: news together\n"+
		"data: {dataset: headlines}\nrounds: 3\nmin_cohort: 3\ndeadline: 60s\npause: 100ms\nattempts: 20\nmetrics: [loss]\n"+
		"recipe: {epochs: 1000, max_steps: 300, batch_size: 8}\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	id := s.ask(t, "train", job).Job
	until := time.Now().Add(3 * time.Minute)
	wait := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			if time.Now().After(until) {
				t.Fatalf("%s did not come:\n%s", what, partners[0].log.String())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	wait("a training", func() bool { return partners[0].does("training") })
	partners[0].end(syscall.SIGKILL)
	partners[0].serve()
	wait("the second round", func() bool {
		st, err := partner.ReadStatus(partners[1].home)
		return err == nil && st.Doing != nil && st.Doing.Round == 2 && st.Doing.State == "training"
	})
	_ = s.process.Kill()
	<-s.ended
	s = spawnServer(t, home, h.runtime, "--partners", port)
	var j answer
	wait("the end", func() bool {
		j = s.ask(t, "jobs", "show", id)
		return j.Phase != "queued" && j.Phase != "running"
	})
	if j.Phase != "succeeded" {
		t.Fatalf("the job %s:\n%s", j.Phase, partners[0].log.String())
	}
	holdLineage(t, s, partners)
	for _, p := range partners {
		p.end(syscall.SIGTERM)
		holdRecord(t, p)
	}
}

// institutions are three partners that were enrolled, have joined and serve.
func institutions(t *testing.T, h *trainedHome, s *server, port string) []*institution {
	t.Helper()
	var all []*institution
	for i, name := range []string{"harbour", "hill", "valley"} {
		dir := filepath.Join(h.dir, name)
		p := &institution{t: t, name: name, home: filepath.Join(dir, "agent"), runtime: h.runtime, rows: filepath.Join(dir, "rows.csv")}
		var rows strings.Builder
		rows.WriteString("text,label\n")
		for n := range 20 + 4*i {
			fmt.Fprintf(&rows, "%s knows that the team won match %d,sport\n%s knows of rates at bank %d,money\n", name, n, name, n)
		}
		agreement := filepath.Join(dir, "agreement.yaml")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for path, text := range map[string]string{p.rows: rows.String(), agreement: "apiVersion: galley/v1\nkind: Agreement\nfederation: news\npartner: " + name +
			"\npurpose: news together\nmodels: [joint]\nrounds: 10\nmin_cohort: 3\nexpires: 2035-01-01\nleaves: {weights: true, rows: {report: rounded, unit: 10, most: 100}, metrics: [loss]}\n"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		galleyCommand(t, h.runtime, "partner", "keygen", "--home", p.home, "--partner", name)
		galleyCommand(t, h.runtime, "federation", "enrol", name, "--cert", filepath.Join(p.home, "partner.crt"), "--server", s.address)
		galleyCommand(t, h.runtime, "partner", "join", "--home", p.home, "--agreement", agreement, "--coordinator", port,
			"--server-cert", filepath.Join(h.dir, "home", "partners", "server.crt"))
		p.serve()
		t.Cleanup(func() { p.end(syscall.SIGKILL) })
		all = append(all, p)
	}
	return all
}

// holdLineage holds what a federated version says of itself to what happened.
func holdLineage(t *testing.T, s *server, partners []*institution) {
	t.Helper()
	c := exec.Command("galley", "models", "lineage", "joint@1", "-o", "json", "--server", s.address)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var lineage struct {
		Federation registry.Federation `json:"federation"`
	}
	if err := json.Unmarshal(out, &lineage); err != nil {
		t.Fatal(err)
	}
	f := lineage.Federation
	if len(f.Rounds) != 3 || len(f.Partners) != len(partners) || !f.SingleUpdatesSeen {
		t.Fatalf("%s", out)
	}
	for i, r := range f.Rounds {
		if r.Round != i+1 || r.Record == "" {
			t.Errorf("round %d of the lineage is %+v", i+1, r)
		}
	}
	for i, p := range partners {
		st, err := partner.ReadStatus(p.home)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Partners[i]; got.Name != p.name || got.Agreement != st.Agreement || got.Rounds != 3 {
			t.Errorf("the lineage says %+v of %s, whose agreement is %s", got, p.name, st.Agreement)
		}
	}
}

// holdRecord holds a partner's record of what left: one update for each attempt
// that it answered, whatever was killed.
func holdRecord(t *testing.T, p *institution) {
	t.Helper()
	type attempt struct{ round, attempt int }
	updates := map[attempt]string{}
	for _, s := range p.sent() {
		if s.What != partner.SentUpdate {
			continue
		}
		at := attempt{s.Round, s.Attempt}
		if before, again := updates[at]; again && before != string(s.Digest) {
			t.Errorf("%s sent two updates for round %d, attempt %d", p.name, s.Round, s.Attempt)
		}
		if updates[at] = string(s.Digest); s.Rows%10 != 0 || len(s.Metrics) > 1 || s.Bytes == 0 {
			t.Errorf("%s sent %+v", p.name, s)
		}
	}
	if st, err := partner.ReadStatus(p.home); err != nil || st.Answered != 3 || st.Serving {
		t.Errorf("%+v, %v:\n%s", st, err, p.log.String())
	}
}
