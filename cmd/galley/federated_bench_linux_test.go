//go:build bench

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"galley/federation"
	"galley/internal/durable"
	"galley/internal/partner"
	"galley/onnx"
	"galley/task"
	"galley/trainer/engine"
	"galley/trainer/launch"
	"galley/trainer/objective"
)

// A coordinator is `galley up` with a model to federate and a port for partners'
// agents.
type coordinator struct {
	*server
	dir, home, runtime string
	port               string // partners'
	cert               string // file with the certificate that partners know it by
}

// startCoordinator trains a model whose federated weights are about so many
// numbers, and serves until the test ends.
func startCoordinator(t *testing.T, numbers int) *coordinator {
	t.Helper()
	runtime := runtimePath(t)
	if runtime == "" {
		t.Skip("ONNX Runtime is not here")
	}
	c := &coordinator{dir: t.TempDir(), runtime: runtime}
	c.home = c.path("home")
	var rows strings.Builder
	rows.WriteString("text,label\n")
	for i := range trainedRows {
		fmt.Fprintf(&rows, "the team won match %d with a late goal,sport\nthe bank leaves its rate at %d once more,money\n", i, i)
	}
	const width = 16
	c.write(t, "rows.csv", rows.String())
	c.write(t, "job.yaml", fmt.Sprintf("apiVersion: galley/v1\nkind: Train\nname: news\ntask: text-classification\ndata: {dataset: headlines}\n"+
		"model: {layers: 0, max_length: 16, ngrams: {orders: 1, buckets: %d, width: %d}}\nrecipe: {max_steps: 2, batch_size: 8}\nresources: {cpus: 1}\n", numbers/width, width))
	for _, args := range [][]string{
		{"data", "add", "headlines", "--train", c.path("rows.csv"), "--test", c.path("rows.csv")},
		{"train", c.path("job.yaml")},
	} {
		galleyCommand(t, runtime, append(args, "--local", "--home", c.home)...)
	}
	c.server = spawnServer(t, c.home, runtime, "--partners", "127.0.0.1:0")
	t.Cleanup(func() { c.drain(t) })
	for _, field := range strings.Fields(c.said) {
		if at, ok := strings.CutPrefix(field, "partners="); ok {
			c.port = at
		}
	}
	c.cert = filepath.Join(c.home, "partners", "server.crt")
	return c
}

func (c *coordinator) path(name string) string { return filepath.Join(c.dir, name) }

func (c *coordinator) write(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(c.path(name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return c.path(name)
}

// newsAgreement is a partner's file.
func newsAgreement(name string) string {
	return fmt.Sprintf(`apiVersion: galley/v1
kind: Agreement
federation: news
partner: %s
purpose: topics of headlines
models: [news]
rounds: 10000
min_cohort: 2
expires: %s
leaves:
  weights: true
  rows: {report: exact, most: 1000}
  metrics: []
`, name, time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339))
}

// enrol makes a partner, which the coordinator knows then.
func (c *coordinator) enrol(t *testing.T, name string) (identity partner.Identity, home string) {
	t.Helper()
	home = c.path("agent-" + name)
	identity, cert, err := partner.Keygen(home, name, 30, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	galleyCommand(t, c.runtime, "federation", "enrol", name, "--cert", cert, "--server", c.address)
	return identity, home
}

// federate runs so many rounds with all who have joined, and returns the version
// that comes of them and when each round was over.
func (c *coordinator) federate(t *testing.T, rounds, cohort int) (version string, over []time.Time) {
	t.Helper()
	file := c.write(t, "federate.yaml", fmt.Sprintf("apiVersion: galley/v1\nkind: Federate\nname: news\nfrom: news@1\ndata: {dataset: headlines}\n"+
		"purpose: topics of headlines\nrounds: %d\nmin_cohort: %d\ndeadline: 9m\nattempts: 1\nrecipe: {max_steps: 1, batch_size: 8}\n", rounds, cohort))
	id := c.ask(t, "train", file).Job
	j := c.ask(t, "jobs", "show", id)
	for until := time.Now().Add(10 * time.Minute); j.Phase == "running" && time.Now().Before(until); j = c.ask(t, "jobs", "show", id) {
		time.Sleep(200 * time.Millisecond)
	}
	out, err := exec.Command("galley", "federation", "rounds", id, "--limit", fmt.Sprint(rounds), "-o", "json", "--server", c.address).CombinedOutput()
	if err != nil || j.Phase != "succeeded" {
		t.Fatalf("the federation %s: %s %v", j.Phase, out, err)
	}
	var made struct{ Rounds []roundJSON }
	if err := json.Unmarshal(out, &made); err != nil || len(made.Rounds) != rounds {
		t.Fatalf("%d rounds were made: %v", len(made.Rounds), err)
	}
	for n, r := range slices.Backward(made.Rounds) {
		came := 0
		for _, p := range r.Cohort {
			if p.Standing == string(federation.Accepted) {
				came++
			}
		}
		if int(r.Round) != rounds-n || came != cohort || r.Ended == nil {
			t.Fatalf("round %d has %d updates", r.Round, came)
		}
		over = append(over, *r.Ended)
	}
	return j.Versions[0], over
}

// weights are the federated ones of a version.
func (c *coordinator) weights(t *testing.T, ref string) []float32 {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "exported")
	galleyCommand(t, c.runtime, "models", "export", ref, "--out", dir, "--server", c.address)
	all, err := federatedOf(filepath.Join(dir, task.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	var numbers []float32
	for _, w := range all.weights {
		values, ok := w.Floats()
		if !ok {
			t.Fatalf("%s has no numbers", w.Name)
		}
		numbers = append(numbers, values...)
	}
	return numbers
}

// A federated model is a graph with the weights that partners exchange.
type federated struct {
	graph   *onnx.Model
	weights []*onnx.Tensor
}

func federatedOf(path string) (federated, error) {
	graph, err := onnx.ReadFile(path, onnx.ReadOptions{})
	if err != nil {
		return federated{}, err
	}
	weights, err := objective.Federated(graph)
	return federated{graph, weights}, err
}

// stepOf is what the i-th partner, who trains nothing, adds to each weight: no
// two updates are the same, which either side would keep once.
func stepOf(i int) float64 { return float64(1+i) / 4096 }

// meanStep is what the weights of so many partners gain in a round.
func meanStep(partners int) float64 {
	sum := 0.0
	for i := range partners {
		sum += stepOf(i)
	}
	return sum / float64(partners)
}

// idle is a launcher of attempts that train nothing, in the agent's own process:
// the model of the round comes back with a step added.
type idle struct{ step float32 }

func (l idle) Start(_ context.Context, r engine.Request) (launch.Attempt, error) {
	model, err := federatedOf(filepath.Join(r.Parent, task.ModelFile))
	if err != nil {
		return nil, err
	}
	for _, w := range model.weights {
		values, ok := w.Floats()
		if !ok {
			return nil, fmt.Errorf("%s has no numbers", w.Name)
		}
		for i := range values {
			values[i] += l.step
		}
		w.Data = onnx.NewFloat(w.Name, values, w.Dims...).Data
	}
	data, err := onnx.Marshal(model.graph)
	if err != nil {
		return nil, err
	}
	if err := durable.Write(filepath.Join(r.WorkDir, task.ModelFile), 0o600, data); err != nil {
		return nil, err
	}
	return ended{engine.Result{Bundle: r.WorkDir, Steps: 1, BestStep: 1}}, nil
}

// ended is an attempt that has ended.
type ended struct{ result engine.Result }

func (ended) Reports() <-chan launch.Report {
	none := make(chan launch.Report)
	close(none)
	return none
}
func (ended) Stop() {}
func (ended) Kill() {}
func (o ended) Wait() launch.Outcome {
	return launch.Outcome{Ending: launch.Finished, Result: o.result}
}

// serveIdle is the program of a partner's agent that trains nothing and is else
// what `galley partner serve` is. Its arguments are its home, its rows and its
// step.
func serveIdle() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	step, err := strconv.ParseFloat(os.Args[3], 32)
	if err == nil {
		err = partner.Serve(ctx, partner.Options{
			Home: os.Args[1], Rows: partner.Rows{Train: os.Args[2], Format: "csv"}, Launcher: idle{float32(step)},
			Version: "idle", Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func init() { programs["idle-partner"] = serveIdle }

// join makes partners who have joined, and returns their agents' homes.
func (c *coordinator) join(t *testing.T, n int) (homes []string) {
	t.Helper()
	for i := range n {
		name := fmt.Sprintf("partner-%02d", 1+i)
		_, home := c.enrol(t, name)
		agreement := c.write(t, name+".yaml", newsAgreement(name))
		galleyCommand(t, c.runtime, "partner", "join", "--home", home, "--agreement", agreement, "--coordinator", c.port, "--server-cert", c.cert)
		homes = append(homes, home)
	}
	return homes
}

// attend has an agent serve in each home until they are stopped: a program,
// which is made for the i-th.
func (c *coordinator) attend(t *testing.T, homes []string, program func(i int) *exec.Cmd) (stop func()) {
	t.Helper()
	agents := make([]*exec.Cmd, len(homes))
	for i, home := range homes {
		agents[i] = program(i)
		agents[i].Env = append(os.Environ(), "GALLEY_ORT_LIB="+c.runtime)
		said, err := os.Create(home + ".log")
		if err != nil {
			t.Fatal(err)
		}
		defer said.Close()
		agents[i].Stdout, agents[i].Stderr = said, said
		if err := agents[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	stop = sync.OnceFunc(func() {
		for i, agent := range agents {
			_ = agent.Process.Signal(syscall.SIGTERM)
			if err := agent.Wait(); err != nil {
				said, _ := os.ReadFile(homes[i] + ".log")
				t.Errorf("an agent: %v: %s", err, said)
			}
		}
	})
	t.Cleanup(stop)
	c.awaitPartners(t, len(homes))
	return stop
}

// awaitPartners waits until so many partners are there.
func (c *coordinator) awaitPartners(t *testing.T, n int) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		out, err := exec.Command("galley", "federation", "partners", "-o", "json", "--server", c.address).Output()
		if err != nil {
			t.Fatal(err)
		}
		there := strings.Count(string(out), `"connected": true`) + strings.Count(string(out), `"connected":true`)
		if there == n {
			return
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d of %d partners are there", there, n)
		}
	}
}
