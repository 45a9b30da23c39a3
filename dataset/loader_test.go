package dataset

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func encodeLength(r Row) (string, int, error) { return r.Text, len(r.Text), nil }

// drain returns the batches of an epoch from first on, as text.
func drain(t interface{ Fatal(...any) }, l *Loader[string], epoch, first int) (batches []string, rows []int) {
	for b, err := range l.Batches(context.Background(), epoch, first) {
		if err != nil {
			t.Fatal(err)
		}
		if b.Epoch != epoch || b.Index != first+len(batches) || len(b.Items) != len(b.Rows) || slices.Max(b.Lengths) != b.MaxLength {
			t.Fatal("inconsistent batch", b)
		}
		batches = append(batches, fmt.Sprint(b))
		rows = append(rows, b.Rows...)
	}
	return batches, rows
}

// A pass yields each row once; a pass begun at batch k is the rest of a full
// one; neither depends on prefetching.
func TestLoaderPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 120).Draw(t, "n")
		var rows rowSlice = numbered(n)
		opts := LoaderOptions[string]{
			Encode: encodeLength, Seed: 5,
			BatchSize:    rapid.IntRange(1, 20).Draw(t, "size"),
			Shuffle:      rapid.Bool().Draw(t, "shuffle"),
			BucketWindow: rapid.IntRange(0, 5).Draw(t, "window"),
			DropLast:     rapid.Bool().Draw(t, "drop"),
		}
		plain, err := NewLoader(rows, opts)
		if err != nil {
			t.Fatal(err)
		}
		epoch := rapid.IntRange(0, 3).Draw(t, "epoch")
		full, seen := drain(t, plain, epoch, 0)
		if len(full) != plain.BatchesPerEpoch() {
			t.Fatalf("%d batches, want %d", len(full), plain.BatchesPerEpoch())
		}
		want := n
		if opts.DropLast {
			want -= n % opts.BatchSize
		}
		slices.Sort(seen)
		if len(seen) != want || len(slices.Compact(seen)) != want {
			t.Fatalf("%d rows, want %d", len(seen), want)
		}
		first := rapid.IntRange(0, len(full)).Draw(t, "first")
		opts.Prefetch = rapid.IntRange(0, 3).Draw(t, "prefetch")
		later, _ := NewLoader(rows, opts)
		if rest, _ := drain(t, later, epoch, first); !slices.Equal(rest, full[first:]) {
			t.Fatalf("from %d: %v, want %v", first, rest, full[first:])
		}
	})
}

// rowSlice is rows in memory.
type rowSlice []Row

func (r rowSlice) Len() int              { return len(r) }
func (r rowSlice) At(i int) (Row, error) { return r[i], nil }

func TestLoaderBuckets(t *testing.T) {
	rows := memory(t, numbered(5000))
	waste := func(window int) (padding int) {
		l, err := NewLoader(rows, LoaderOptions[string]{Encode: encodeLength, BatchSize: 32, Shuffle: true, BucketWindow: window})
		if err != nil {
			t.Fatal(err)
		}
		for b, err := range l.Batches(t.Context(), 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range b.Lengths {
				padding += b.MaxLength - n
			}
		}
		return padding
	}
	if plain, bucketed := waste(1), waste(50); bucketed*10 > plain {
		t.Errorf("padding %d with buckets, %d without", bucketed, plain)
	}
}

func TestLoaderEpochsDiffer(t *testing.T) {
	l, err := NewLoader(memory(t, numbered(100)), LoaderOptions[string]{Encode: encodeLength, BatchSize: 10, Shuffle: true, BucketWindow: 3})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := drain(t, l, 0, 0)
	b, _ := drain(t, l, 1, 0)
	again, _ := drain(t, l, 0, 0)
	if slices.Equal(a, b) || !slices.Equal(a, again) {
		t.Error("epochs must differ, and a pass repeat")
	}
}

func TestLoaderErrors(t *testing.T) {
	rows := memory(t, numbered(100))
	boom := errors.New("boom")
	for _, prefetch := range []int{0, 2} {
		l, err := NewLoader(rows, LoaderOptions[string]{BatchSize: 10, Prefetch: prefetch, Encode: func(r Row) (string, int, error) {
			if r.Text == numbered(100)[35].Text {
				return "", 0, boom
			}
			return encodeLength(r)
		}})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		var last error
		for _, err := range l.Batches(t.Context(), 0, 0) {
			n++
			last = err
		}
		if n != 4 || !errors.Is(last, boom) {
			t.Errorf("%d results, the last %v", n, last)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, err := range l.Batches(ctx, 0, 0) {
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			t.Error(last)
		}
		for _, err := range l.Batches(t.Context(), 0, -1) {
			if last = err; err == nil {
				t.Error("batch -1 is accepted")
			}
		}
	}
	for _, opts := range []LoaderOptions[string]{
		{BatchSize: 1}, {Encode: encodeLength}, {Encode: encodeLength, BatchSize: 1 << 19, BucketWindow: 3},
		{Encode: encodeLength, BatchSize: 1, Prefetch: -1},
	} {
		if _, err := NewLoader(rows, opts); err == nil {
			t.Errorf("%+v is accepted", opts)
		}
	}
}

// A consumer that stops early leaves no goroutine behind.
func TestLoaderStops(t *testing.T) {
	l, err := NewLoader(memory(t, numbered(1000)), LoaderOptions[string]{Encode: encodeLength, BatchSize: 2, Prefetch: 4})
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 50 {
		for range l.Batches(t.Context(), 0, 0) {
			break
		}
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

// TestLoaderCancelled holds that a pass which is cut short by its context says
// so: an end without an error is the end of the data.
func TestLoaderCancelled(t *testing.T) {
	var rows rowSlice = numbered(40)
	for _, prefetch := range []int{0, 1, 4} {
		l, err := NewLoader(rows, LoaderOptions[string]{Encode: encodeLength, BatchSize: 1, Prefetch: prefetch})
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			if seen, err := cancelled(t, l); !errors.Is(err, context.Canceled) && seen < len(rows) {
				t.Fatalf("prefetch %d: a cancelled pass ended after %d batches with the error %v", prefetch, seen, err)
			}
		}
	}
}

// cancelled cancels a pass from its first batch on, and returns how many came
// and the error that ended it.
func cancelled(t *testing.T, l *Loader[string]) (seen int, failed error) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range l.Batches(ctx, 0, 0) {
		if failed = err; err == nil {
			seen++
		}
		cancel()
		runtime.Gosched()
	}
	return seen, failed
}

func TestSubset(t *testing.T) {
	rows := memory(t, append(numbered(1000), Row{Text: "rare", Label: "Z", Language: "en"}))
	count := func(r Rows) map[string]int {
		n := map[string]int{}
		for i := range r.Len() {
			row, err := r.At(i)
			if err != nil {
				t.Fatal(err)
			}
			n[row.Label]++
		}
		return n
	}
	a, err := NewSubset(t.Context(), rows, 0.1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(count(a)); got != "map[A:33 B:33 C:33 Z:1]" {
		t.Error(got)
	}
	again, _ := NewSubset(t.Context(), rows, 0.1, 1)
	other, _ := NewSubset(t.Context(), rows, 0.1, 2)
	if !slices.Equal(a.chosen, again.chosen) || slices.Equal(a.chosen, other.chosen) {
		t.Error("the seed must decide the subset")
	}
	if all, _ := NewSubset(t.Context(), rows, 1, 1); all.Len() != rows.Len() {
		t.Error(all.Len())
	}
	for _, f := range []float64{0, -1, 1.1} {
		if _, err := NewSubset(t.Context(), rows, f, 1); err == nil {
			t.Errorf("fraction %v is accepted", f)
		}
	}
	if row, err := a.At(a.Len() - 1); err != nil || row.Text != "rare" {
		t.Error(row, err)
	}
	if _, err := a.At(a.Len()); err == nil {
		t.Errorf("row %d of %d", a.Len(), a.Len())
	}
}

func BenchmarkLoader(b *testing.B) {
	l, err := NewLoader(memory(b, numbered(20_000)), LoaderOptions[string]{Encode: encodeLength, BatchSize: 32, Shuffle: true, BucketWindow: 50})
	if err != nil {
		b.Fatal(err)
	}
	rows := 0
	for epoch := 0; b.Loop(); epoch++ {
		for batch := range l.Batches(b.Context(), epoch, 0) {
			rows += len(batch.Rows)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}
