package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// An overheardFederation is a coordinator and its partners in this process, each
// with a recorder of its own; they train in processes of theirs.
type overheardFederation struct {
	t           *testing.T
	env         map[string]string
	at          endpoints
	coordinator overheard
	partners    []*overheardPartner
	agents      sync.WaitGroup
	job         string
}

// An overheardPartner has rows that are like no others.
type overheardPartner struct {
	name      string
	rows      []headlineRow
	folder    string
	agreement []byte
	wire      overheard
}

// A headlineRow is a row of a partner's.
type headlineRow struct{ id, text, label string }

// headlineRows are so many rows of two labels, each a text of its own.
func headlineRows(partner, words string, n int) (all []headlineRow) {
	for i := range n {
		about, label := "scores a goal late in match", "sport"
		if i%2 == 1 {
			about, label = "央行维持利率不变 at the bank", "money"
		}
		all = append(all, headlineRow{fmt.Sprintf("row-%s-%04d", partner, 7000+i), fmt.Sprintf("%s %s %d", words, about, 100+i), label})
	}
	return all
}

// overhearFederation starts a coordinator with the data and the model that its
// run begins with.
func overhearFederation(t *testing.T, runtimeLib string) *overheardFederation {
	t.Helper()
	t.Setenv("GALLEY_ORT_LIB", runtimeLib) // of the processes that train
	trained := &trainedHome{t: t, runtime: runtimeLib}
	if trained.make(); trained.err != nil {
		t.Fatal(trained.err)
	}
	f := &overheardFederation{t: t, env: map[string]string{"GALLEY_HOME": filepath.Join(trained.dir, "home"), "GALLEY_ORT_LIB": runtimeLib}}
	f.up()
	return f
}

func (f *overheardFederation) get(name string) (string, bool) { v, ok := f.env[name]; return v, ok }

// command runs a command of galley's as agent, nil for the coordinator's
// operator.
func (f *overheardFederation) command(ctx context.Context, agent *overheard, args ...string) (string, error) {
	var out bytes.Buffer
	var log lockedBuffer
	a := newApp(nil, &out, &log, f.get)
	if agent != nil {
		a.overhearAgent = agent.agent()
	}
	root := a.root()
	root.SetArgs(append(args, "-o", "json"))
	if err := root.ExecuteContext(ctx); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", args, err, log.String())
	}
	return out.String(), nil
}

func (f *overheardFederation) must(agent *overheard, args ...string) string {
	f.t.Helper()
	out, err := f.command(f.t.Context(), agent, args...)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// up starts the coordinator.
func (f *overheardFederation) up() {
	f.t.Helper()
	a := newApp(nil, io.Discard, io.Discard, f.get)
	a.overhear = f.coordinator.server()
	ctx, stop := context.WithCancel(f.t.Context())
	listen := anyPorts
	listen.partners = "127.0.0.1:0"
	ready, ended := make(chan endpoints, 1), make(chan error, 1)
	go func() { ended <- a.up(ctx, listen, func(at endpoints) { ready <- at }) }()
	f.t.Cleanup(func() {
		stop()
		f.agents.Wait()
		if err := <-ended; err != nil {
			f.t.Error(err)
		}
	})
	select {
	case f.at = <-ready:
	case err := <-ended:
		ended <- nil
		f.t.Fatal(err)
	}
	f.env["GALLEY_SERVER"] = f.at.grpc
}

// join has a partner join, and lets its agent serve until it has answered a
// round.
func (f *overheardFederation) join(p *overheardPartner) {
	f.t.Helper()
	name := p.name
	p.folder = filepath.Join(f.t.TempDir(), "secret-folder-of-"+name)
	f.partners = append(f.partners, p)
	f.must(nil, "partner", "keygen", "--home", p.folder, "--partner", name)
	f.must(nil, "federation", "enrol", name, "--cert", filepath.Join(p.folder, "partner.crt"))
	write := func(file string, data []byte) string {
		path := filepath.Join(p.folder, file)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			f.t.Fatal(err)
		}
		return path
	}
	p.agreement = fmt.Appendf(nil, `apiVersion: galley/v1
kind: Agreement
federation: joint
partner: %s
purpose: topics of headlines
models: [joint-topics]
rounds: 10
min_cohort: 2
expires: %s
leaves:
  weights: true
  rows: {report: rounded, unit: 10, most: 1000}
  metrics: [loss]
`, name, time.Now().AddDate(1, 0, 0).Format(time.DateOnly))
	agreement := write("agreement-of-"+name+".yaml", p.agreement)
	var rows strings.Builder
	rows.WriteString("id,text,label\n")
	for _, r := range p.rows {
		fmt.Fprintf(&rows, "%s,%s,%s\n", r.id, r.text, r.label)
	}
	data := write("secret-rows.csv", []byte(rows.String()))
	f.must(&p.wire, "partner", "join", "--home", p.folder, "--agreement", agreement, "--coordinator", f.at.partners,
		"--server-cert", filepath.Join(f.env["GALLEY_HOME"], "partners", "server.crt"))
	ctx := f.t.Context() // it ends before what is cleaned up
	f.agents.Go(func() {
		if _, err := f.command(ctx, &p.wire, "partner", "serve", "--home", p.folder, "--data", data, "--once"); err != nil {
			f.t.Error(err)
		}
	})
}

// train makes a version of one round, and waits for all who had a part in it.
func (f *overheardFederation) train(recipe string) {
	f.t.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var listed struct{ Partners []enrolledPartner }
		if err := json.Unmarshal([]byte(f.must(nil, "federation", "partners")), &listed); err != nil {
			f.t.Fatal(err)
		}
		if !slices.ContainsFunc(listed.Partners, func(p enrolledPartner) bool { return !p.Connected }) {
			break
		}
		if time.Since(begun) > time.Minute {
			f.t.Fatalf("not all agents have come: %+v", listed.Partners)
		}
	}
	file := filepath.Join(f.t.TempDir(), "run.yaml")
	err := os.WriteFile(file, fmt.Appendf(nil, `apiVersion: galley/v1
kind: Federate
name: joint-topics
data: {dataset: headlines}
from: news@1
federation: joint
purpose: topics of headlines
rounds: 1
deadline: 5m
metrics: [loss]
recipe: %s
`, recipe), 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	var job struct {
		Job, Phase string
		Versions   []string
	}
	if err := json.Unmarshal([]byte(f.must(nil, "train", file, "--wait")), &job); err != nil || job.Phase != "succeeded" || len(job.Versions) != 1 {
		f.t.Fatalf("%+v, %v", job, err)
	}
	f.job = job.Job
	f.agents.Wait()
}
