package dataset

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// memoryRows tells a child process of TestMemory how many rows to handle.
const memoryRows = "GALLEY_TEST_MEMORY_ROWS"

// Ten times the rows take at most 1.1 times the memory, frozen and streamed.
// Each size runs in a process of its own, so that neither finds a heap grown
// by the other.
func TestMemory(t *testing.T) {
	if n, err := strconv.Atoi(os.Getenv(memoryRows)); err == nil {
		fmt.Printf("peak %d\n", peakHeap(t, n))
		return
	}
	if testing.Short() {
		t.Skip("handles 110,000 rows")
	}
	small, large := childPeak(t, 10_000), childPeak(t, 100_000)
	t.Logf("peak heap %.2f MiB, %.2f MiB with ten times the rows: %.3fx", mib(small), mib(large), large/small)
	if large > 1.1*small {
		t.Errorf("ten times the rows take %.3f times the memory", large/small)
	}
}

func mib(n float64) float64 { return n / (1 << 20) }

func childPeak(t *testing.T, rows int) float64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemory$", "-test.v")
	cmd.Env = append(os.Environ(), memoryRows+"="+strconv.Itoa(rows))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, rest, _ := strings.Cut(string(out), "peak ")
	number, _, _ := strings.Cut(rest, "\n")
	peak, err := strconv.ParseFloat(number, 64)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return peak
}

// peakHeap freezes n rows and streams two epochs, and returns the most bytes
// of live heap seen. A collection before each sample leaves out garbage, whose
// amount is chance.
func peakHeap(t *testing.T, n int) (peak uint64) {
	sample := func() {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc)
	}
	every := n / 25
	dir := t.TempDir()
	in := &Input{Name: "t.csv", Open: func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			b := bufio.NewWriter(w)
			_, _ = io.WriteString(b, "text,label\n")
			for i := range n {
				if i%every == 0 {
					sample()
				}
				_, _ = fmt.Fprintf(b, "headline %d of %s,l%d\n", i, strings.Repeat("many words ", i%20), i%10)
			}
			_ = w.CloseWithError(b.Flush())
		}()
		return r, nil
	}}
	path := func(s Split) string { return filepath.Join(dir, string(s)) }
	m, _, err := Freeze(t.Context(), FreezeOptions{Name: "m", Format: CSV, TempDir: dir}, Inputs{Train: in}, func(s Split) (io.Writer, error) {
		f, err := os.Create(path(s))
		t.Cleanup(func() { _ = f.Close() })
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	sample()
	records, err := OpenRecordsFile(path(Train))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = records.Close() }()
	l, err := NewLoader(records, LoaderOptions[string]{Encode: encodeLength, BatchSize: 32, Shuffle: true, BucketWindow: 50, Prefetch: 4})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for epoch := range 2 {
		for b, err := range l.Batches(t.Context(), epoch, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if seen += len(b.Rows); b.Index%(every/32+1) == 0 {
				sample()
			}
		}
	}
	if int64(seen) != 2*m.Splits[Train].Rows {
		t.Fatal(seen)
	}
	return peak
}
