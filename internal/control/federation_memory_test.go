package control

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"galley/federation"
	"galley/internal/blob"
	"galley/onnx"
	"galley/registry"
	"galley/task"
	"galley/trainer"
)

// wideModel registers a classifier with so many weights more than the small one.
func (w *world) wideModel(t *testing.T, width int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	if err := writeBundle(dir, "text-classification", []string{"money", "sport"}, []byte("wide")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, task.ModelFile)
	m, err := onnx.ReadFile(path, onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g := m.Graph
	head := g.Nodes[len(g.Nodes)-1]
	sum := head.Inputs[0]
	g.Initializers = append(g.Initializers,
		onnx.NewFloat("wide.in", make([]float32, width), 1, int64(width)), onnx.NewFloat("wide.out", make([]float32, width), int64(width), 1))
	g.Nodes = append(g.Nodes[:len(g.Nodes)-1],
		&onnx.Node{Name: "in", Op: "MatMul", Inputs: []string{sum, "wide.in"}, Outputs: []string{"inside"}},
		&onnx.Node{Name: "out", Op: "MatMul", Inputs: []string{"inside", "wide.out"}, Outputs: []string{"outside"}}, head)
	head.Inputs[0] = "outside"
	if err := onnx.WriteFile(path, m, onnx.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, release := w.blobs.Hold(t.Context())
	defer release()
	artifacts, err := w.collect(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	v := registry.Version{Name: "topic", Task: "text-classification", Labels: []string{"money", "sport"}, Artifacts: artifacts, Creator: "ann", Created: w.now()}
	if _, _, err := w.store.Register(ctx, v); err != nil {
		t.Fatal(err)
	}
}

// A round of 100 partners whose updates come at once is taken and aggregated in
// memory that does not depend on how many they are.
func TestMemoryOfHundredPartners(t *testing.T) {
	if testing.Short() {
		t.Skip("moves gigabytes")
	}
	const partners, width = 100, 1 << 20 // 8 MiB of weights
	w, err := openWith(t.TempDir(), evenOpener{}, 1, blob.Options{}, func(o *Options) { o.SpoolBytes = 64 << 20 })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	w.add(t, "news", map[string]string{"train": rows, "valid": rows})
	w.wideModel(t, width)
	var agents []*agent
	for i := range partners {
		agents = append(agents, newAgent(t, w.Control, fmt.Sprintf("partner-%03d", i), int64(10+i)))
	}
	file := strings.NewReplacer("rounds: 3", "rounds: 1", "deadline: 20s", "deadline: 10m").Replace(federationFile)
	job, offers := offered(t, w, file, agents...)
	runOf, _ := w.federations.named("topics")
	f, err := w.stored(t.Context(), runOf)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := w.layoutOf(f, runOf)
	if err != nil {
		t.Fatal(err)
	}
	model := layout.EncodedSize()

	var peak atomic.Uint64
	done := make(chan struct{})
	var sampling sync.WaitGroup
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	sampling.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	var all sync.WaitGroup
	for i, a := range agents {
		all.Go(func() {
			path := filepath.Join(t.TempDir(), fmt.Sprint(i))
			h, err := a.writeUpdate(path, layout, offers[a.name], float32(i))
			if err != nil {
				t.Error(err)
				return
			}
			body, err := os.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer body.Close()
			if v, err := w.SubmitUpdate(context.Background(), a.name, h, body); err != nil || !v.OK() {
				t.Errorf("%s: %+v %v", a.name, v, err)
			}
			_ = os.Remove(path)
		})
	}
	all.Wait()
	// Eight hundred megabytes are aggregated, on a busy machine for minutes.
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if f, err := w.Federation(t.Context(), job); err == nil && f.Closed == 1 {
			break
		}
		if time.Since(begun) > 5*time.Minute {
			t.Fatal("the round is not closed")
		}
	}
	close(done)
	sampling.Wait()
	used, most := peak.Load()-min(before.HeapInuse, peak.Load()), uint64(3*model+64<<20)
	t.Logf("%d updates of %d MiB: %d MiB in use at most, of %d", partners, model>>20, used>>20, most>>20)
	if used > most {
		t.Errorf("%d MiB were in use; at most %d are to be", used>>20, most>>20)
	}
	if j := w.wait(t, job); j.Phase != trainer.Succeeded {
		t.Fatal(j.Error)
	}
}

// writeUpdate writes an update of one number into a file, and signs it.
func (a *agent) writeUpdate(path string, l federation.Layout, o federation.Offer, value float32) (federation.SignedHeader, error) {
	var none federation.SignedHeader
	file, err := os.Create(path)
	if err != nil {
		return none, err
	}
	defer file.Close()
	out, err := federation.NewWriter(file, l)
	if err != nil {
		return none, err
	}
	row := make([]float32, 1024)
	for i := range row {
		row[i] = value
	}
	for left := l.Elements(); left > 0; left -= int64(len(row)) {
		row = row[:min(int64(len(row)), left)]
		if err := out.Write(row); err != nil {
			return none, err
		}
	}
	if _, err := out.Close(); err != nil {
		return none, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return none, err
	}
	finding, err := federation.Inspect(file, l)
	if err != nil {
		return none, err
	}
	_, h, err := a.Answer(o, finding, a.rows, nil, time.Now())
	return h, err
}
