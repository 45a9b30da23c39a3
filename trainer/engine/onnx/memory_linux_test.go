package onnx

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"galley"
	"galley/dataset"
	"galley/internal/ort/orttest"
	"galley/trainer"
	"galley/trainer/engine"
)

// requestFile tells a child process the attempt to run.
const requestFile = "GALLEY_ATTEMPT"

// TestMemoryDoesNotGrowWithRows runs an attempt of the same steps in a child
// process of its own on ten times the rows, tokenizer and n-gram weights
// learnt from all of them: at most a tenth more memory at the peak.
func TestMemoryDoesNotGrowWithRows(t *testing.T) {
	if path := os.Getenv(requestFile); path != "" {
		runAttempt(t, path)
		return
	}
	if testing.Short() {
		t.Skip("trains in two processes")
	}
	orttest.Opener(t) // obtained here, where a skip is seen
	sameMemory(t, func(rows int) engine.Request { return manyRows(t, t.TempDir(), rows) })
}

// TestMemoryOfDistillation is the same for a student, whose teacher is asked
// about every row.
func TestMemoryOfDistillation(t *testing.T) {
	if testing.Short() {
		t.Skip("trains in three processes")
	}
	opener := orttest.Opener(t)
	r := manyRows(t, t.TempDir(), 2_000)
	teacher, err := Driver{Opener: opener}.Train(t.Context(), r, func(engine.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	sameMemory(t, func(rows int) engine.Request {
		return distilled(manyRows(t, t.TempDir(), rows), teacher, t.TempDir())
	})
}

// sameMemory holds attempts on 20,000 rows to at most a tenth more memory than
// those on 2,000. Of each, the least of up to three attempts counts.
func sameMemory(t *testing.T, request func(rows int) engine.Request) {
	t.Helper()
	few, many := int64(math.MaxInt64), int64(math.MaxInt64)
	for range 3 {
		few, many = min(few, peakOfAttempt(t, request(2_000))), min(many, peakOfAttempt(t, request(20_000)))
		t.Logf("peak memory: %d MiB for 2,000 rows, %d MiB for 20,000", few>>20, many>>20)
		if float64(many) <= 1.1*float64(few) {
			return
		}
	}
	t.Errorf("ten times the rows need %.2f times the memory", float64(many)/float64(few))
}

// distilled is the job of a student with the same network, in a work folder of
// its own.
func distilled(r engine.Request, teacher engine.Result, work string) engine.Request {
	r.Spec.Kind, r.Spec.Student.Model, r.Spec.Model = trainer.KindDistill, r.Spec.Model, trainer.Model{}
	r.Spec.Teachers, r.Spec.Temperature, r.Spec.Alpha = []string{"teacher@1"}, 2, 0.7
	r.Teachers = []engine.Teacher{{Ref: "teacher@1", Digest: galley.DigestBytes([]byte("teacher")), Folder: teacher.Bundle}}
	r.WorkDir = work
	return r
}

// peakOfAttempt returns the most memory, in bytes, of an attempt.
func peakOfAttempt(t *testing.T, r engine.Request) int64 {
	t.Helper()
	request, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(path, request, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestMemoryDoesNotGrowWithRows$")
	// Garbage is collected early: what is asked for is what is in use, and not how
	// long an attempt with many rows leaves time for garbage to gather.
	cmd.Env = append(os.Environ(), requestFile+"="+path, "GOGC=10")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	peak, _, _ := strings.Cut(string(out), "\n")
	n, err := strconv.ParseInt(peak, 10, 64)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return n
}

// runAttempt is the child: it prints the most memory it had.
func runAttempt(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r engine.Request
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if _, err := (Driver{Opener: orttest.Opener(t)}).Train(t.Context(), r, func(engine.Event) {}); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(kb << 10)
}

// manyRows makes a dataset of texts whose words are as frequent as in real
// ones, and a small job on it.
func manyRows(t *testing.T, dir string, rows int) engine.Request {
	t.Helper()
	r := rand.New(rand.NewPCG(4, 4))
	zipf := rand.NewZipf(r, 1.2, 3, 50_000)
	input := func(name string, rows int) *dataset.Input {
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		w.Write([]string{"text", "label"})
		for range rows {
			label := r.IntN(4)
			words := make([]string, 6+r.IntN(10))
			for i := range words {
				words[i] = "w" + strconv.FormatUint(zipf.Uint64()*4+uint64(label), 36)
			}
			w.Write([]string{strings.Join(words, " "), strconv.Itoa(label)})
		}
		w.Flush()
		return &dataset.Input{Name: name + ".csv", Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }}
	}
	columns, err := dataset.ParseColumns("text=text,label=label")
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]string{}
	var files []*os.File
	manifest, _, err := dataset.Freeze(t.Context(), dataset.FreezeOptions{
		Name: "rows", Format: dataset.CSV, Columns: columns, NeedLabel: true,
	}, dataset.Inputs{Train: input("train", rows), Valid: input("valid", 200)}, func(s dataset.Split) (io.Writer, error) {
		path := filepath.Join(dir, string(s))
		f, err := os.Create(path)
		records[string(s)] = path
		files = append(files, f)
		return f, err
	})
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	spec, problems := trainer.ParseFile([]byte(`
apiVersion: galley/v1
kind: Train
name: rows
task: text-classification
data: {dataset: rows}
model: {layers: 1, hidden: 64, heads: 2, feed_forward: 128, max_length: 32, vocabulary: 4000}
recipe: {epochs: 100, max_steps: 20, batch_size: 32, checkpoint_every: 10}
`), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	return engine.Request{Job: "rows", Attempt: 1, Spec: spec, Data: manifest, Records: records, WorkDir: work}
}
