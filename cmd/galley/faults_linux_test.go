package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galley/internal/faults"
)

// recovery is how long a server may take from its start until it is ready,
// whatever happened to its home.
const recovery = 5 * time.Second

// An ordeal is a home whose servers are asked for things, and suffer.
type ordeal struct {
	*testing.T
	seed    uint64
	r       *rand.Rand
	disk    *faults.Disk // nil where there can be none
	home    string
	runtime string
	client  *http.Client

	mu     sync.Mutex
	cut    atomic.Bool // the power is gone: what is said now does not count
	data   map[string]string
	jobs   map[string]string // by key
	moves  map[int64]moveJSON
	heads  [][]byte
	asked  int
	served int
	met    map[string]int
}

// moveJSON is what the test reads of the move of an alias.
type moveJSON struct {
	From       string `json:"from"`
	To         string `json:"to"`
	Generation int64  `json:"generation,string"`
	Reason     string `json:"reason"`
}

// Real servers under a mixed load and random faults keep what they have
// acknowledged.
func TestFaults(t *testing.T) {
	seeds, met, asked, served := faults.Seeds(t, 5), map[string]int{}, 0, 0
	trained := &trainedHome{t: t, runtime: runtimePath(t)}
	if trained.runtime == "" {
		t.Skip("ONNX Runtime is not here")
	}
	if trained.make(); trained.err != nil {
		t.Fatal(trained.err)
	}
	disk := faults.NewDisk(t, 64<<20)
	dir := t.TempDir()
	if disk != nil {
		dir = disk.Dir
	}
	for _, seed := range seeds {
		if t.Failed() {
			break
		}
		o := &ordeal{
			T: t, seed: seed, r: rand.New(rand.NewPCG(seed, 9)), disk: disk, home: filepath.Join(dir, fmt.Sprint("home", seed)), runtime: trained.runtime,
			client: &http.Client{Timeout: 5 * time.Second}, data: map[string]string{}, jobs: map[string]string{}, moves: map[int64]moveJSON{}, met: met,
		}
		o.must(os.CopyFS(o.home, os.DirFS(filepath.Join(trained.dir, "home"))))
		for life := range 1 + o.r.IntN(3) {
			o.live(life)
		}
		o.check()
		asked, served = asked+o.asked, served+o.served
		o.must(os.RemoveAll(o.home))
	}
	t.Logf("%d seeds, %d requests, %d answered, faults %v", len(seeds), asked, served, met)
}

func (o *ordeal) failf(format string, args ...any) {
	o.Helper()
	o.Errorf("seed %d: %s; again with %s=%d go test -run %s ./cmd/galley", o.seed, fmt.Sprintf(format, args...), faults.SeedVariable, o.seed, o.Name())
}

func (o *ordeal) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatalf("seed %d: %v", o.seed, err)
	}
}

// start starts a server, which must be ready in time.
func (o *ordeal) start() *server {
	began := time.Now()
	s := spawnServer(o.T, o.home, o.runtime)
	if took := time.Since(began); took > recovery {
		o.failf("ready after %v", took)
	}
	return s
}

// live lets a server live for a while with faults, and kills it.
func (o *ordeal) live(life int) {
	o.cut.Store(false)
	s := o.start()
	var callers sync.WaitGroup
	stop := make(chan struct{})
	for caller := range uint64(3) {
		callers.Go(func() {
			r, name := rand.New(rand.NewPCG(o.seed, uint64(life)<<8+caller)), fmt.Sprintf("s%d-%d-%d", o.seed, life, caller)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(r.IntN(20)) * time.Millisecond):
					o.call(s, r, fmt.Sprint(name, "-", i))
				}
			}
		})
	}
	for end := time.Now().Add(time.Duration(500+o.r.IntN(1500)) * time.Millisecond); time.Now().Before(end); {
		time.Sleep(time.Duration(o.r.IntN(200)) * time.Millisecond)
		o.suffer(s.process.Pid)
	}
	cut := o.disk != nil && o.r.IntN(3) == 0
	if cut {
		o.cut.Store(true)
		o.met["power cut"]++
		o.must(o.disk.Cut())
		time.Sleep(time.Duration(o.r.IntN(50)) * time.Millisecond)
	}
	o.met["server killed"]++
	o.must(s.process.Kill())
	if err := <-s.ended; err == nil || err.Error() != "signal: killed" {
		o.failf("life %d ended before it was killed: %v: %s", life, err, s.said)
	}
	close(stop)
	callers.Wait()
	if cut {
		o.must(o.disk.Restore())
	}
	if o.disk != nil {
		o.must(o.disk.Free())
	}
}

// suffer is one fault, which passes.
func (o *ordeal) suffer(server int) {
	long := time.Duration(o.r.IntN(200)) * time.Millisecond
	switch n := o.r.IntN(5); {
	case n == 0:
		killed, err := faults.KillChildren(server)
		o.must(err)
		o.met["attempt killed"] += killed
	case n == 1:
		o.met["torn writes"]++
		o.must(faults.LimitWrites(server, uint64(o.r.IntN(1<<20))))
		time.Sleep(long)
		o.must(faults.LimitWrites(server, faults.Unlimited))
	case n == 2 && o.disk != nil:
		o.met["full disk"]++
		o.must(o.disk.Fill())
		time.Sleep(long)
		o.must(o.disk.Free())
	case n == 3 && o.disk != nil:
		o.met["slow disk"]++
		o.must(o.disk.Freeze(long))
	}
}

// call asks for something and notes what was acknowledged.
func (o *ordeal) call(s *server, r *rand.Rand, name string) {
	switch n := r.IntN(100); {
	case n < 55:
		var got struct {
			Outputs []struct {
				Label string `json:"label"`
			} `json:"outputs"`
		}
		if o.ask(s, "POST", "/v1/newsroom:classify", "application/json", []byte(`{"model":"news","version":"`+[]string{"1", "2"}[r.IntN(2)]+`","text":"the team won"}`), &got) &&
			(len(got.Outputs) != 1 || got.Outputs[0].Label != "sport" && got.Outputs[0].Label != "money") {
			o.failf("an answer: %+v", got)
		}
	case n < 65:
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		_ = form.WriteField("name", "more")
		_ = form.WriteField("format", "csv")
		file, err := form.CreateFormFile("train", "train.csv")
		if err == nil {
			_, err = fmt.Fprintf(file, "text,label\na late goal,sport\nthe bank of %s,money\n", name)
		}
		if err != nil || form.Close() != nil {
			o.failf("a form: %v", err)
			return
		}
		var got struct {
			Version int    `json:"version"`
			Digest  string `json:"digest"`
		}
		if o.ask(s, "POST", "/v1/data", form.FormDataContentType(), body.Bytes(), &got) {
			o.note(func() { o.data[fmt.Sprint("more@", got.Version)] = got.Digest })
		}
	case n < 70:
		o.mu.Lock()
		enough := len(o.jobs) >= 4 // each takes seconds
		o.mu.Unlock()
		if enough {
			return
		}
		var got answer
		if o.ask(s, "POST", "/v1/jobs?idempotency_key="+name+"&set=name=made&set=recipe.max_steps=40&set=recipe.epochs=100&set=recipe.checkpoint_every=10", "application/yaml", []byte(trainedJob), &got) {
			o.note(func() { o.jobs[name] = got.Job })
		}
	case n < 85:
		var got moveJSON
		if o.ask(s, "POST", fmt.Sprintf("/v1/models/news@%d/promote", 1+r.IntN(2)), "application/json", []byte(`{"alias":"prod","force":true,"reason":"`+name+`"}`), &got) && got.From != got.To {
			o.note(func() { o.moves[got.Generation] = got })
		}
	case n < 93:
		var got moveJSON
		if o.ask(s, "POST", "/v1/models/news/rollback", "application/json", []byte(`{"alias":"prod"}`), &got) && got.From != got.To {
			o.note(func() { o.moves[got.Generation] = got })
		}
	default:
		// As the command writes it.
		if head, err := exec.Command("galley", "audit", "head", "--server", s.address).Output(); err == nil && !o.cut.Load() {
			o.note(func() { o.heads = append(o.heads, head) })
		}
	}
}

func (o *ordeal) note(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

// ask reports whether the request was answered without an error, while there
// was power. One that speaks of a defect of galley's fails the test.
func (o *ordeal) ask(s *server, method, path, kind string, body []byte, answer any) bool {
	o.note(func() { o.asked++ })
	request, err := http.NewRequestWithContext(o.Context(), method, "http://"+s.http+path, bytes.NewReader(body))
	if err != nil {
		o.failf("%v", err)
		return false
	}
	request.Header.Set("Content-Type", kind)
	reply, err := o.client.Do(request)
	if err != nil {
		return false // it was killed
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return false
	}
	if o.cut.Load() {
		return false
	}
	if reply.StatusCode == http.StatusInternalServerError {
		o.failf("%s %s: %d %s", method, path, reply.StatusCode, text)
	}
	if reply.StatusCode != http.StatusOK {
		return false
	}
	o.note(func() { o.served++ })
	if err := json.Unmarshal(text, answer); err != nil {
		o.failf("%s %s: %v: %s", method, path, err, text)
		return false
	}
	return true
}

// check starts a last server and compares what it has with what was
// acknowledged.
func (o *ordeal) check() {
	o.cut.Store(false)
	s := o.start()
	defer s.drain(o.T)
	for ref, digest := range o.data {
		var got struct {
			Digest string `json:"digest"`
		}
		if !o.ask(s, "GET", "/v1/data/"+ref, "", nil, &got) || got.Digest != digest {
			o.failf("%s was acknowledged as %s and is %s", ref, digest, got.Digest)
		}
	}
	var history struct {
		Changes []moveJSON `json:"changes"`
	}
	if o.ask(s, "GET", "/v1/models/news/history?alias=prod&limit=1000", "", nil, &history); len(history.Changes) < len(o.moves) {
		o.failf("%d moves were acknowledged, there are %d", len(o.moves), len(history.Changes))
	}
	for generation, want := range o.moves {
		if !slices.Contains(history.Changes, want) {
			o.failf("move %d was acknowledged, there is none such: %+v", generation, want)
		}
	}
	for key, id := range o.jobs {
		o.checkJob(s, key, id)
	}
	for i := range o.heads {
		if i > 0 && i < len(o.heads)-1 {
			continue // it verifies the first and the last
		}
		file := filepath.Join(o.TempDir(), "head")
		o.must(os.WriteFile(file, o.heads[i], 0o600))
		if out, err := exec.Command("galley", "audit", "verify", "--head", file, "--server", s.address).CombinedOutput(); err != nil {
			o.failf("the log of audit: %v: %s", err, out)
		}
	}
}

// checkJob lets a job end, and holds that it was done once.
func (o *ordeal) checkJob(s *server, key, id string) {
	show := func() (j faultJob) {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if !o.ask(s, "GET", "/v1/jobs/"+id, "", nil, &j) {
				o.failf("job %s of %s was acknowledged, and is not there", id, key)
				return j
			}
			if j.Phase != "queued" && j.Phase != "running" {
				return j
			}
		}
		o.failf("job %s does not end", id)
		return j
	}
	j := show()
	for range 3 {
		if j.Phase == "failed" {
			o.ask(s, "POST", "/v1/jobs/"+id+"/resume", "application/json", nil, &j)
			j = show()
		}
	}
	finished, began := 0, int64(0)
	for i, a := range j.Attempts {
		if a.Outcome == "finished" {
			finished++
		}
		if a.From > 0 && a.From < began {
			o.failf("%s: attempt %d began at step %d after one that began at %d", id, i+1, a.From, began)
		}
		began = max(began, a.From)
	}
	if j.Phase != "succeeded" || finished != 1 || len(j.Versions) != 1 {
		o.failf("%s is %s with %d finished attempts of %d and versions %s: %s", id, j.Phase, finished, len(j.Attempts), strings.Join(j.Versions, " "), j.Error)
	}
}

// faultJob is what the test reads of a job.
type faultJob struct {
	Phase    string          `json:"phase"`
	Versions []string        `json:"versions"`
	Error    json.RawMessage `json:"error"`
	Attempts []struct {
		From    int64  `json:"from_step,string"`
		Outcome string `json:"outcome"`
	} `json:"attempts"`
}
