package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A whole run, overheard at the coordinator's end in plain text: of what two
// partners have, weights, counts, metrics and their agreements come, and nothing
// of a text, a file or a folder.
func TestOnlyWeightsLeavePartners(t *testing.T) {
	if testing.Short() {
		t.Skip("trains at two partners")
	}
	runtimeLib := runtimePath(t)
	if runtimeLib == "" {
		t.Skip("ONNX Runtime is not here")
	}
	trained := &trainedHome{t: t, runtime: runtimeLib}
	if trained.make(); trained.err != nil {
		t.Fatal(trained.err)
	}
	env := map[string]string{"GALLEY_HOME": filepath.Join(trained.dir, "home"), "GALLEY_ORT_LIB": runtimeLib}
	get := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	var wire overheard
	a := newApp(nil, io.Discard, io.Discard, get)
	a.overhear = wire.server()
	ctx, stop := context.WithCancel(t.Context())
	listen := anyPorts
	listen.partners = "127.0.0.1:0"
	ready, ended := make(chan endpoints, 1), make(chan error, 1)
	go func() { ended <- a.up(ctx, listen, func(at endpoints) { ready <- at }) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var at endpoints
	select {
	case at = <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	env["GALLEY_SERVER"] = at.grpc
	command := func(args ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		if code := run(t.Context(), append(args, "-o", "json"), nil, &out, &errOut, get); code != exitOK {
			t.Fatalf("%v: %d, %s", args, code, errOut.String())
		}
		return out.String()
	}
	var agents sync.WaitGroup
	defer agents.Wait()
	names := []string{"harbour-gazette", "hill-radio"}
	for i, name := range names {
		folder := filepath.Join(t.TempDir(), "secret-folder-of-"+name)
		command("partner", "keygen", "--home", folder, "--partner", name)
		command("federation", "enrol", name, "--cert", filepath.Join(folder, "partner.crt"))
		write := func(file, text string) string {
			path := filepath.Join(folder, file)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		agreement := write("agreement.yaml", fmt.Sprintf(`apiVersion: galley/v1
kind: Agreement
federation: news
partner: %s
purpose: topics of headlines
models: [news]
rounds: 10
min_cohort: 2
expires: %s
leaves:
  weights: true
  rows: {report: rounded, unit: 10, most: 1000}
  metrics: [loss]
`, name, time.Now().AddDate(1, 0, 0).Format(time.DateOnly)))
		command("partner", "join", "--home", folder, "--agreement", agreement, "--coordinator", at.partners, "--server-cert", filepath.Join(env["GALLEY_HOME"], "partners", "server.crt"))
		agent := exec.Command("galley", "partner", "serve", "--home", folder, "--data", write("secret-rows.csv", secretRows(i)), "--once")
		agent.Env = append(os.Environ(), "GALLEY_ORT_LIB="+runtimeLib)
		agents.Go(func() {
			if out, err := agent.CombinedOutput(); err != nil {
				t.Errorf("the agent of %s: %v: %s", name, err, out)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: galley/v1
kind: Federate
name: news
data: {dataset: headlines}
from: news@1
purpose: topics of headlines
rounds: 1
deadline: 90s
metrics: [loss]
recipe: {max_steps: 2, batch_size: 8}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	var job struct {
		Job, Phase string
		Versions   []string
	}
	if err := json.Unmarshal([]byte(command("train", file, "--wait")), &job); err != nil || job.Phase != "succeeded" || len(job.Versions) != 1 {
		t.Fatalf("%+v, %v", job, err)
	}
	agents.Wait()
	for i, name := range names {
		hidden := append(strings.Fields(secretWords[i]), "secret-folder-of-", "secret-rows.csv")
		for _, line := range strings.Split(secretRows(i), "\n")[1:] {
			if text, _, ok := strings.Cut(line, ","); ok {
				hidden = append(hidden, text)
			}
		}
		wire.silentAbout(t, name, hidden...)
	}
	in, out, beside := wire.size()
	t.Logf("%d bytes came, %d of them beside updates; %d went", in, beside, out)
	if wire.updates == 0 || beside > 16<<10 {
		t.Errorf("%d bytes came beside %d of updates", beside, wire.updates)
	}
}

// secretWords are in one partner's rows alone.
var secretWords = []string{"quillwort zephyrine", "marmoset 珊瑚礁"}

// secretRows are the rows of a partner, each a text of its own.
func secretRows(i int) string {
	var rows strings.Builder
	rows.WriteString("text,label\n")
	for n := range 24 {
		fmt.Fprintf(&rows, "%s scores goal %d of the match,sport\n%s 央行第%d次维持利率不变,money\n", secretWords[i], n, secretWords[i], n)
	}
	return rows.String()
}
