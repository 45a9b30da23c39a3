package serving

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func queueOf(sizes ...int) []*row[int, int] {
	var queue []*row[int, int]
	for _, s := range sizes {
		queue = append(queue, &row[int, int]{size: s})
	}
	return queue
}

func TestWindow(t *testing.T) {
	for _, c := range []struct {
		sizes      []int
		anchor     int
		rows, size int
		overhead   float64
		low, high  int
	}{
		{[]int{10}, 0, 32, 1000, 16, 0, 1},
		{[]int{10, 10, 10}, 1, 32, 1000, 16, 0, 3},
		{[]int{10, 10, 10}, 1, 2, 1000, 16, 0, 2},      // no more rows than that
		{[]int{10, 10, 10}, 1, 32, 20, 16, 0, 2},       // nor elements
		{[]int{4, 10, 11, 40}, 1, 32, 1000, 16, 0, 3},  // the near ones
		{[]int{10, 25}, 0, 32, 1000, 20, 0, 1},         // half of one would be padding
		{[]int{4, 25, 26}, 2, 32, 1000, 20, 1, 3},      // the anchor's neighbours
		{[]int{5, 5, 5, 300}, 3, 32, 1000, 16, 3, 4},   // none is near
		{[]int{5, 5, 5, 300}, 3, 32, 100, 16, 3, 4},    // a row alone may have more
		{[]int{20, 21, 22, 23}, 0, 32, 1000, 16, 0, 4}, // the most urgent may be the shortest
		{[]int{20, 21, 22, 23}, 0, 32, 1000, 0, 0, 1},  // nothing to save
	} {
		if low, high := window(queueOf(c.sizes...), c.anchor, c.rows, c.size, c.overhead); low != c.low || high != c.high {
			t.Errorf("%+v: [%d, %d)", c, low, high)
		}
	}
}

// A window has the anchor, keeps its bounds, and costs no more than its rows
// alone.
func TestWindowProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		queue := queueOf(rapid.Custom(func(t *rapid.T) []int {
			sizes := rapid.SliceOfN(rapid.IntRange(1, 100), 1, 60).Draw(t, "steps")
			at := 0
			for i, step := range sizes {
				at += step / 20
				sizes[i] = at + 1
			}
			return sizes
		}).Draw(t, "sizes")...)
		anchor := rapid.IntRange(0, len(queue)-1).Draw(t, "anchor")
		rows := rapid.IntRange(1, 40).Draw(t, "rows")
		size := rapid.IntRange(1, 2000).Draw(t, "size")
		overhead := rapid.Float64Range(0, 64).Draw(t, "overhead")
		low, high := window(queue, anchor, rows, size, overhead)
		if low > anchor || high <= anchor || low < 0 || high > len(queue) {
			t.Fatalf("[%d, %d) has not %d of %d", low, high, anchor, len(queue))
		}
		n, widest, padding := high-low, queue[high-1].size, 0
		for _, r := range queue[low:high] {
			padding += widest - r.size
		}
		if n > rows || n > 1 && n*widest > size || wasteful(padding, n*widest) || float64(padding) > overhead*float64(n-1) {
			t.Fatalf("%d rows of %d with padding %d", n, widest, padding)
		}
	})
}

func TestCostLearns(t *testing.T) {
	var c cost
	if c.estimate(100) != 0 || c.atLeast(100) != 0 || c.overhead() != defaultOverhead || c.sizeWithin(time.Second) != math.MaxInt {
		t.Error("it knows before it has seen anything")
	}
	c.observe(10, time.Hour) // the first run does not count
	line := func(perRun, perOne time.Duration) {
		for i := range 300 {
			n := 10 + i*37%90
			c.observe(n, perRun+time.Duration(n)*perOne)
		}
	}
	near := func(got, want time.Duration) bool { return math.Abs(float64(got-want)) < 0.02*float64(want) }
	line(3*time.Millisecond, 150*time.Microsecond)
	if !near(c.estimate(50), 10500*time.Microsecond) || math.Abs(c.overhead()-20) > 1 || math.Abs(float64(c.sizeWithin(10500*time.Microsecond)-50)) > 1 {
		t.Errorf("a run of 50 takes %v, the overhead is %.1f, within 10.5 ms %d fit", c.estimate(50), c.overhead(), c.sizeWithin(10500*time.Microsecond))
	}
	line(time.Millisecond, 200*time.Microsecond)
	if !near(c.estimate(50), 11*time.Millisecond) || math.Abs(c.overhead()-5) > 1 {
		t.Errorf("after a change a run of 50 takes %v, the overhead is %.1f", c.estimate(50), c.overhead())
	}
	before := c.estimate(50)
	c.doubt()
	if after := c.estimate(50); !near(after, before*9/10) {
		t.Errorf("%v became %v", before, after)
	}
	// Runs of one size only.
	c = cost{}
	for range 100 {
		c.observe(16, time.Millisecond)
	}
	if !near(c.estimate(16), time.Millisecond) || c.overhead() != defaultOverhead {
		t.Errorf("a run of 16 takes %v, the overhead is %.1f", c.estimate(16), c.overhead())
	}
}
