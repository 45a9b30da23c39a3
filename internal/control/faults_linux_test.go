package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"galley"
	"galley/internal/audit"
	"galley/internal/faults"
	"galley/internal/store"
	"galley/registry"
	"galley/task"
	"galley/trainer"
)

// recovery is how long a home may take to open, whatever happened to it.
const recovery = 5 * time.Second

// A trial is a home that suffers, and what it has acknowledged.
type trial struct {
	*testing.T
	seed uint64
	r    *rand.Rand
	disk *faults.Disk // nil where there can be none
	home string
	acks []acknowledgement
	met  map[string]int // faults
}

func (tr *trial) failf(format string, args ...any) {
	tr.Helper()
	tr.Errorf("seed %d: %s; again with %s=%d go test -run '^TestFaults$' ./internal/control", tr.seed, fmt.Sprintf(format, args...), faults.SeedVariable, tr.seed)
}

func (tr *trial) must(err error) {
	tr.Helper()
	if err != nil {
		tr.Fatalf("seed %d: %v", tr.seed, err)
	}
}

// Under a mixed load and random faults, what was acknowledged is there
// afterwards, each job was done once, to the bit, and the log of audit
// verifies against each head that was given away.
func TestFaults(t *testing.T) {
	const disks = 4 // side by side: a seed waits more than it works
	seeds := faults.Seeds(t, 95)
	for i := range min(disks, len(seeds)) {
		t.Run(fmt.Sprint("disk ", i), func(t *testing.T) {
			t.Parallel()
			var own []uint64
			for k := i; k < len(seeds); k += disks {
				own = append(own, seeds[k])
			}
			suffer(t, own)
		})
	}
}

// suffer runs a trial for each seed, on one disk.
func suffer(t *testing.T, seeds []uint64) {
	acks, met := 0, map[string]int{}
	disk := faults.NewDisk(t, 40<<20)
	dir := t.TempDir()
	if disk != nil {
		dir = disk.Dir
	}
	for _, seed := range seeds {
		if t.Failed() {
			break
		}
		tr := &trial{T: t, seed: seed, r: rand.New(rand.NewPCG(seed, 6)), disk: disk, home: filepath.Join(dir, fmt.Sprint("home", seed)), met: met}
		tr.begin()
		for life := range 1 + tr.r.IntN(3) {
			tr.live(life)
		}
		tr.check()
		acks += len(tr.acks)
		tr.must(os.RemoveAll(tr.home))
	}
	t.Logf("%d seeds, %d acknowledged, faults %v", len(seeds), acks, met)
}

// begin makes a home with the data of the jobs.
func (tr *trial) begin() {
	w, err := open(tr.home, noOpener{}, 2)
	tr.must(err)
	defer w.stop()
	w.add(tr.T, "news", map[string]string{"train": rows})
}

// live lets a server live for a while with faults, and ends it with one.
func (tr *trial) live(life int) {
	c := exec.Command(os.Args[0], "faults", tr.home, fmt.Sprint(tr.seed), fmt.Sprint(life))
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.StdoutPipe()
	tr.must(err)
	began := time.Now()
	tr.must(c.Start())
	ready, heard := make(chan struct{}), make(chan struct{})
	var acks []acknowledgement
	var gone atomic.Bool // the power
	go func() {
		defer close(heard)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var a acknowledgement
			if json.Unmarshal(lines.Bytes(), &a) != nil {
				break // cut off by the kill
			}
			if a.Ready {
				close(ready)
				continue
			}
			if gone.Load() {
				continue // said in the dark, which a machine without power cannot
			}
			acks = append(acks, a)
		}
	}()
	select {
	case <-ready:
		if took := time.Since(began); took > recovery {
			tr.failf("life %d began after %v", life, took)
		}
	case <-heard:
		_ = c.Wait()
		tr.Fatalf("seed %d: life %d did not begin: %s", tr.seed, life, said.String())
	}
	for end := time.Now().Add(time.Duration(100+tr.r.IntN(400)) * time.Millisecond); time.Now().Before(end); {
		time.Sleep(time.Duration(tr.r.IntN(60)) * time.Millisecond)
		tr.suffer(c.Process.Pid)
	}
	cut := tr.disk != nil && tr.r.IntN(3) == 0
	if cut {
		tr.met["power cut"]++
		gone.Store(true)
		tr.must(tr.disk.Cut())
		time.Sleep(time.Duration(tr.r.IntN(20)) * time.Millisecond)
	}
	tr.met["server killed"]++
	tr.must(c.Process.Kill())
	<-heard
	if err := c.Wait(); c.ProcessState.ExitCode() != -1 || said.Len() > 0 {
		tr.failf("life %d ended before it was killed: %v: %s", life, err, said.String())
	}
	if cut {
		tr.must(tr.disk.Restore())
	}
	if tr.disk != nil {
		tr.must(tr.disk.Free())
	}
	tr.acks = append(tr.acks, acks...)
}

// suffer is one fault, which passes.
func (tr *trial) suffer(server int) {
	moment := func() { time.Sleep(time.Duration(tr.r.IntN(60)) * time.Millisecond) }
	switch n := tr.r.IntN(5); {
	case n == 0:
		killed, err := faults.KillChildren(server)
		tr.must(err)
		tr.met["attempt killed"] += killed
	case n == 1:
		tr.met["torn writes"]++
		tr.must(faults.LimitWrites(server, uint64(tr.r.IntN(200<<10))))
		moment()
		tr.must(faults.LimitWrites(server, faults.Unlimited))
	case n == 2 && tr.disk != nil:
		tr.met["full disk"]++
		tr.must(tr.disk.Fill())
		moment()
		tr.must(tr.disk.Free())
	case n == 3 && tr.disk != nil:
		tr.met["slow disk"]++
		tr.must(tr.disk.Freeze(time.Duration(tr.r.IntN(60)) * time.Millisecond))
	}
}

// check opens the home once more, lets its jobs come to an end, and compares.
func (tr *trial) check() {
	began := time.Now()
	w, err := open(tr.home, noOpener{}, 2)
	tr.must(err)
	defer w.stop()
	if took := time.Since(began); took > recovery {
		tr.failf("the home opened after %v", took)
	}
	ctx := tr.Context()
	keys := map[string]string{}
	var heads []audit.SignedHead
	for _, a := range tr.acks {
		switch {
		case a.Defect != "":
			tr.failf("an answer: %s", a.Defect)
		case a.Data != "":
			d, err := w.Dataset(ctx, a.Data)
			if err != nil || d.Digest != a.Digest {
				tr.failf("%s was acknowledged as %s and is %s: %v", a.Data, a.Digest, d.Digest, err)
				continue
			}
			for _, s := range d.Manifest.Splits {
				if err := w.blobs.Verify(ctx, s.Digest); err != nil {
					tr.failf("%s: %v", a.Data, err)
				}
			}
		case a.Job != "":
			if before := keys[a.Key]; before != "" && before != a.Job {
				tr.failf("key %s stands for %s and %s", a.Key, before, a.Job)
			}
			keys[a.Key] = a.Job
			if _, err := w.Job(ctx, a.Job); err != nil {
				tr.failf("an acknowledged job: %v", err)
			}
		case a.Head != nil:
			heads = append(heads, *a.Head)
		}
	}
	tr.checkAliases(w)
	tr.checkAudit(w, heads)
	jobs, err := w.Jobs(ctx, store.JobQuery{Limit: store.MaxList})
	tr.must(err)
	for _, j := range jobs {
		tr.checkJob(w, j.ID)
	}
}

// checkAliases compares the moves that were acknowledged with the history.
func (tr *trial) checkAliases(w *world) {
	changes, err := w.History(tr.Context(), faultModel, registry.Prod, store.MaxList)
	if err != nil && galley.CodeOf(err) != galley.NotFound {
		tr.failf("%v", err)
	}
	byGeneration := map[int64]registry.Change{}
	for _, c := range changes {
		byGeneration[c.Generation] = c
	}
	if len(byGeneration) != len(changes) {
		tr.failf("%d moves have %d generations", len(changes), len(byGeneration))
	}
	for _, a := range tr.acks {
		if a.Moved == nil || a.Moved.From == a.Moved.To {
			continue
		}
		if c := byGeneration[a.Moved.Generation]; c.To != a.Moved.To || c.From != a.Moved.From || c.Reason != a.Moved.Reason {
			tr.failf("the move %+v was acknowledged, there is %+v", *a.Moved, c)
		}
	}
	for g := range int64(len(changes)) {
		if _, ok := byGeneration[g+1]; !ok {
			tr.failf("generation %d of %d is missing", g+1, len(changes))
		}
	}
}

func (tr *trial) checkAudit(w *world, heads []audit.SignedHead) {
	now, err := w.AuditHead(tr.Context())
	tr.must(err)
	for i, h := range heads {
		if err := h.Check(); err != nil || !bytes.Equal(h.Key, now.Key) {
			tr.failf("head %d: %v, another key: %v", i, err, !bytes.Equal(h.Key, now.Key))
		}
		v := audit.NewVerifier(h.Head())
		err := w.AuditEntries(tr.Context(), AuditSelection{}, func(e audit.Entry) error { return v.Add(e) })
		if err = errors.Join(err, v.Finish()); err != nil {
			tr.failf("the log of audit: %v", err)
		}
	}
}

// checkJob lets a job end, and holds that it was done once.
func (tr *trial) checkJob(w *world, id string) {
	j := tr.wait(w, id)
	for range 3 {
		if j.Phase == trainer.Failed {
			if _, err := w.Resume(tr.Context(), "ann", id); err != nil {
				tr.failf("%v", err)
			}
			j = tr.wait(w, id)
		}
	}
	finished, began := 0, 0
	for _, a := range j.Attempts {
		if a.Outcome == "finished" {
			finished++
		}
		if a.From > 0 && a.From < began {
			tr.failf("%s: attempt %d began at step %d after one that began at %d", id, a.Number, a.From, began)
		}
		began = max(began, a.From)
	}
	if j.Phase != trainer.Succeeded || finished != 1 || len(j.Versions) != 1 {
		tr.failf("%s is %s with %d finished attempts of %d and versions %v: %v", id, j.Phase, finished, len(j.Attempts), j.Versions, j.Error)
		return
	}
	published := strings.Count(w.log(tr.T, id), "published as")
	if published > 1 {
		tr.failf("%s was published %d times", id, published)
	}
	if got, want := w.modelDigest(tr.T, j.Versions[0]), undisturbed(tr.T, j.Spec.Recipe.Seed); got != want {
		tr.failf("%s made %s, undisturbed it is %s", id, got, want)
	}
}

// wait follows a job until it is final.
func (tr *trial) wait(w *world, id string) (j trainer.Job) {
	tr.Helper()
	ctx, cancel := context.WithTimeout(tr.Context(), 20*time.Second)
	defer cancel()
	if err := w.Watch(ctx, id, func(now trainer.Job) error { j = now; return nil }); err != nil {
		e, why := w.Explain(tr.Context(), id)
		tr.Fatalf("seed %d: %s does not end: %v; %v %v", tr.seed, id, err, e.Reasons, why)
	}
	return j
}

// undisturbed is the model of a job of the load that nothing happened to.
func undisturbed(t *testing.T, seed uint64) galley.Digest {
	t.Helper()
	var hash []byte
	for range faultEpochs * stepsPerEpoch {
		sum := sha256.Sum256(fmt.Appendf(hash, "%d", seed))
		hash = sum[:]
	}
	dir := filepath.Join(t.TempDir(), "bundle")
	if err := writeBundle(dir, "text-mlm", nil, hash); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, task.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, _, err := galley.DigestReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
