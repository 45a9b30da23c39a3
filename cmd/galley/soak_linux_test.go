package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soakVariable says how long the soak takes; make soak sets it.
const soakVariable = "GALLEY_SOAK"

// What may grow between the second quarter of a soak and its last, by medians.
const (
	soakMemory     = 1.15 // times, and
	soakMemorySlop = 24 << 20
	soakGoroutines = 24
	soakFiles      = 12
)

// A vital is what a server takes at one moment.
type vital struct{ memory, goroutines, files float64 }

// A soaking is a server under load, and what it said.
type soaking struct {
	*testing.T
	s                         *server
	client                    *http.Client
	answered, failed, refused atomic.Int64
}

// At 70 % load, with switches, loads and unloads of models, and bad input, a
// server takes no more at the end than at the beginning.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a server for many seconds")
	}
	long := 12 * time.Second
	if asked := os.Getenv(soakVariable); asked != "" {
		var err error
		if long, err = time.ParseDuration(asked); err != nil {
			t.Fatal(err)
		}
	}
	h := &trainedHome{t: t, runtime: runtimePath(t)}
	if h.runtime == "" {
		t.Skip("ONNX Runtime is not here")
	}
	if h.make(); h.err != nil {
		t.Fatal(h.err)
	}
	idle := max(time.Second, long/100)
	s := spawnServer(t, filepath.Join(h.dir, "home"), h.runtime, "--unload-idle", idle.String())
	defer s.drain(t)
	k := &soaking{T: t, s: s, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	k.promote(0)
	rate := k.capacity(2*time.Second) * 0.7
	var vitals []vital
	var work sync.WaitGroup
	stop := make(chan struct{})
	every := func(pause time.Duration, do func(i int)) {
		work.Go(func() {
			ticks := time.NewTicker(pause)
			defer ticks.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-ticks.C:
					do(i)
				}
			}
		})
	}
	const callers = 8
	for range callers {
		every(time.Duration(callers/rate*float64(time.Second)), func(int) { k.classify("") })
	}
	every(500*time.Millisecond, k.promote)
	every(3*idle, func(i int) { k.classify(strconv.Itoa(1 + i%2)) }) // one that was unloaded, at times
	every(50*time.Millisecond, k.bad)
	every(max(250*time.Millisecond, long/400), func(int) { vitals = append(vitals, k.vital()) })
	time.Sleep(long)
	close(stop)
	work.Wait()

	quarter := len(vitals) / 4
	if quarter < 2 {
		t.Fatalf("%d samples", len(vitals))
	}
	was, is := median(vitals[quarter:2*quarter]), median(vitals[len(vitals)-quarter:])
	t.Logf("%v at %.0f requests/s: %d answered, %d failed, %d bad ones refused; memory %.1f to %.1f MB, goroutines %.0f to %.0f, files %.0f to %.0f",
		long, rate, k.answered.Load(), k.failed.Load(), k.refused.Load(), was.memory/1e6, is.memory/1e6, was.goroutines, is.goroutines, was.files, is.files)
	if k.failed.Load() > 0 || k.answered.Load() == 0 || k.refused.Load() == 0 {
		t.Error("requests failed, or none was sent")
	}
	if is.memory > soakMemory*was.memory+soakMemorySlop || is.goroutines > was.goroutines+soakGoroutines || is.files > was.files+soakFiles {
		t.Errorf("it grows: %+v, then %+v", was, is)
	}
}

// median takes each sign by itself.
func median(vitals []vital) vital {
	of := func(sign func(vital) float64) float64 {
		var all []float64
		for _, v := range vitals {
			all = append(all, sign(v))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return vital{
		of(func(v vital) float64 { return v.memory }),
		of(func(v vital) float64 { return v.goroutines }),
		of(func(v vital) float64 { return v.files }),
	}
}

// post returns the status of an answer, 0 if there is none.
func (k *soaking) post(path, body string) int {
	reply, err := k.client.Post("http://"+k.s.http+path, "application/json", strings.NewReader(body))
	if err != nil {
		k.Logf("%s: %v", path, err)
		return 0
	}
	defer reply.Body.Close()
	_, _ = io.Copy(io.Discard, reply.Body)
	return reply.StatusCode
}

// classify asks for one text, of prod if no version is named.
func (k *soaking) classify(version string) {
	body := `{"model":"news","version":"` + version + `","text":"the team won with a late goal"}`
	switch status := k.post("/v1/newsroom:classify", body); status {
	case http.StatusOK:
		k.answered.Add(1)
	default:
		k.failed.Add(1)
		k.Logf("classify: %d", status)
	}
}

// capacity is how many texts a second callers without a pause get answered.
func (k *soaking) capacity(long time.Duration) float64 {
	var callers sync.WaitGroup
	began := time.Now()
	for range 8 {
		callers.Go(func() {
			for time.Since(began) < long {
				k.classify("")
			}
		})
	}
	callers.Wait()
	return max(10, float64(k.answered.Load())/time.Since(began).Seconds())
}

// promote points prod at one version, then at the other.
func (k *soaking) promote(i int) {
	path, body := fmt.Sprintf("/v1/models/news@%d/promote", 1+i%2), `{"alias":"prod","force":true,"reason":"soak"}`
	if i%4 == 3 {
		path, body = "/v1/models/news/rollback", `{"alias":"prod"}`
	}
	if status := k.post(path, body); status != http.StatusOK {
		k.failed.Add(1)
		k.Logf("%s: %d", path, status)
	}
}

// bad sends one of the things that are refused.
func (k *soaking) bad(i int) {
	asks := []struct{ path, body string }{
		{"/v1/newsroom:classify", `{"model":"news","text":`},
		{"/v1/newsroom:classify", `{"model":"none","text":"x"}`},
		{"/v1/newsroom:classify", `{"model":"news","version":"99","text":"x"}`},
		{"/v2/models/news/infer", `{"inputs":[{"name":"text","datatype":"BYTES","shape":[3],"data":["x"]}]}`},
		{"/v2/models/news/infer", `{"inputs":[{"name":"text","datatype":"FP32","shape":[-1],"data":[]}]}`},
		{"/v1/jobs", "apiVersion: galley/v0"},
		{"/v1/models/news@99/promote", `{"alias":"prod"}`},
		{"/v1/data", `{}`},
	}
	ask := asks[i%len(asks)]
	if status := k.post(ask.path, ask.body); status < 400 || status >= 500 {
		k.failed.Add(1)
		k.Logf("%s %s: %d", ask.path, ask.body, status)
		return
	}
	k.refused.Add(1)
}

// vital reads the server's metrics.
func (k *soaking) vital() (v vital) {
	reply, err := k.client.Get("http://" + k.s.metrics + "/metrics")
	if err != nil {
		k.Errorf("metrics: %v", err)
		return v
	}
	defer reply.Body.Close()
	to := map[string]*float64{"process_resident_memory_bytes": &v.memory, "go_goroutines": &v.goroutines, "process_open_fds": &v.files}
	for lines := bufio.NewScanner(reply.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if field := to[name]; field != nil {
			if *field, err = strconv.ParseFloat(value, 64); err != nil {
				k.Errorf("%s: %v", name, err)
			}
		}
	}
	return v
}
