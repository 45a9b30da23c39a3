package control

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/blob"
	"galley/onnx"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer"
)

// evenOpener opens graphs that find all classes alike.
type evenOpener struct{}

func (evenOpener) Runtime() string { return "even" }

func (o evenOpener) Open(context.Context, []byte, session.Options) (session.Session, error) {
	return nil, galley.Errorf(galley.Unimplemented, "runtime", "opens files alone")
}

func (evenOpener) OpenFile(_ context.Context, path string, _ session.Options) (session.Session, error) {
	m, err := onnx.ReadFile(path, onnx.ReadOptions{})
	if err != nil {
		return nil, err
	}
	return evenSession{m.Graph}, nil
}

type evenSession struct{ graph *onnx.Graph }

func (s evenSession) Inputs() []onnx.Value           { return s.graph.Inputs }
func (s evenSession) Outputs() []onnx.Value          { return s.graph.Outputs }
func (s evenSession) Bind() (session.Binding, error) { return nil, nil }
func (s evenSession) Bytes() int64                   { return 0 }
func (s evenSession) Close() error                   { return nil }

func (s evenSession) Run(_ context.Context, inputs map[string]*session.Tensor, _ ...string) (map[string]*session.Tensor, error) {
	batch := inputs["input_ids"].Shape[0]
	classes := s.graph.Outputs[0].Shape[1].Size
	logits, err := session.Zeros[float32](batch, classes)
	return map[string]*session.Tensor{s.graph.Outputs[0].Name: logits}, err
}

var _ session.Opener = evenOpener{}

// partnersOf are those of the crash test; the last one lies.
var partnersOf = []string{"courier", "gazette", "herald", "liar"}

// openFederated opens a home whose agents are in the same process; what they
// signed is in a folder of it.
func openFederated(home string) (*world, []*agent, error) {
	w, err := openWith(home, evenOpener{}, 1, blob.Options{}, func(o *Options) { o.Gather, o.Patience = 20*time.Millisecond, 5*time.Millisecond })
	if err != nil {
		return nil, nil, err
	}
	var agents []*agent
	for i, name := range partnersOf {
		a, err := knownAgent(w.Control, name, int64(100*(i+1)), filepath.Join(home, "agents"))
		if err != nil {
			w.stop()
			return nil, nil, err
		}
		if name == "liar" {
			a.change = func(_ *federation.Header, data []byte) ([]byte, ed25519.PrivateKey) { return data[:len(data)-1], nil }
		}
		agents = append(agents, a)
	}
	return w, agents, nil
}

// federatedServer runs such a home until it is killed.
func federatedServer(home string) int {
	w, agents, err := openFederated(home)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer w.stop()
	for _, a := range agents {
		go func() { _ = a.serve(context.Background()) }()
	}
	fmt.Println("ready")
	select {}
}

// A coordinator and its agents that are killed at random moments, again and
// again, lose no round and count none twice, and publish one version.
func TestKilledCoordinators(t *testing.T) {
	if testing.Short() {
		t.Skip("kills servers for several seconds")
	}
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "agents"), 0o700); err != nil {
		t.Fatal(err)
	}
	w, agents, err := openFederated(home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.stop() })
	w.forFederations(t)
	for _, a := range agents {
		newAgent(t, w.Control, a.name, a.rows)
	}
	first := w.graphWeights(t, "topic@1")
	r := rand.New(rand.NewPCG(7, 8))
	// Many rounds, and one alone, so that most kills are while it is published.
	for i, c := range []struct{ rounds, kills int }{{100, 25}, {1, 15}} {
		name := fmt.Sprintf("joint-%d", c.rounds)
		file := strings.NewReplacer("name: joint", "name: "+name, "rounds: 3", fmt.Sprintf("rounds: %d\nenough: 3\nattempts: 1000", c.rounds), "deadline: 20s", "deadline: 1s").
			Replace(federationFile)
		job := w.submit(t, []byte(file)).ID
		w.stop()
		for range c.kills {
			cmd := exec.Command(os.Args[0], "federated", home)
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			var word string
			_, _ = fmt.Fscan(out, &word)
			time.Sleep(time.Duration(r.IntN(250-150*i)) * time.Millisecond)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if w, agents, err = openFederated(home); err != nil {
			t.Fatal(err)
		}
		done, err := w.Federation(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("after %d kills %d of %d rounds were closed", c.kills, done.Closed, c.rounds)
		stop := start(t, agents...)
		j := w.wait(t, job)
		if j.Phase != trainer.Succeeded || !slices.Equal(j.Versions, []string{name + "@1"}) {
			t.Fatalf("%+v %v", j, j.Error)
		}
		stop()
		near(t, w.graphWeights(t, name+"@1"), checkRounds(t, w.Control, job, first))
		w.checkMade(t, name, job, c.rounds)
	}
	w.sweep(t.Context())
	w.checkNamed(t)
}

// checkMade holds that there is one version of a federated job, whose lineage is
// whole, and that no lie is part of it.
func (w *world) checkMade(t *testing.T, name, job string, rounds int) {
	t.Helper()
	m, err := w.store.Model(t.Context(), name)
	if err != nil || len(m.Versions) != 1 {
		t.Errorf("%+v %v", m, err)
	}
	v, _, err := w.Version(t.Context(), galley.Ref{Name: name})
	if err != nil || len(v.Lineage.Federation.Rounds) != rounds || len(v.Reports) != 2 {
		t.Errorf("%+v %v", v, err)
	}
	refused, lied := 0, false
	for _, part := range v.Lineage.Federation.Rounds {
		record, digest, err := w.Round(t.Context(), job, part.Round, part.Attempt)
		if err != nil || digest != part.Record {
			t.Errorf("%s %v", digest, err)
		}
		if e, ok := record.Entry("liar"); ok {
			lied = true
			refused += e.Refused
			if e.Standing == federation.Accepted {
				t.Errorf("a lie is part of round %d", record.Number)
			}
		}
	}
	if lied && refused == 0 && rounds > 10 {
		t.Error("nobody lied")
	}
	// An effect of the job's end, which is done after it.
	eventually(t, func() bool {
		_, err := task.OpenBundleDir(filepath.Join(w.workDir(job), "bundle"))
		return err != nil
	})
}
