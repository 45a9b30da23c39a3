package serving

import (
	"math"
	"time"
)

// A cost learns what a run takes: a line over the number of its elements,
// fitted to the runs seen, of which older ones count less and less. The first
// run is left out, since the runtime still makes ready then.
type cost struct {
	warm           bool
	n              float64 // runs, weighted
	x, y, xx, xy   float64 // sums over elements and seconds
	perRun, perOne float64 // seconds
}

// memory is by how much a run counts less than the next one.
const memory = 0.98

// Bounds on what a run's overhead may be, in elements, and what it is while
// too little is known: that of a small text encoder on one core.
const (
	minOverhead     = 2
	maxOverhead     = 64
	defaultOverhead = 16
)

// observe learns from a run.
func (c *cost) observe(elements int, took time.Duration) {
	if !c.warm {
		c.warm = true
		return
	}
	x, y := float64(elements), took.Seconds()
	c.n = c.n*memory + 1
	c.x = c.x*memory + x
	c.y = c.y*memory + y
	c.xx = c.xx*memory + x*x
	c.xy = c.xy*memory + x*y
	meanX, meanY := c.x/c.n, c.y/c.n
	variance := c.xx/c.n - meanX*meanX
	c.perOne = 0
	if variance > 1 {
		c.perOne = max(0, (c.xy/c.n-meanX*meanY)/variance)
	}
	c.perRun = meanY - c.perOne*meanX
	if c.perRun < 0 {
		c.perRun, c.perOne = 0, meanY/meanX
	}
}

// estimate is how long a run of so many elements takes, 0 while nothing is
// known.
func (c *cost) estimate(elements int) time.Duration { return c.estimates(1, elements) }

// estimates is how long so many runs of together so many elements take.
func (c *cost) estimates(runs, elements int) time.Duration {
	return time.Duration((c.perRun*float64(runs) + c.perOne*float64(elements)) * float64(time.Second))
}

// atLeast is how long such a run takes even if all goes well.
func (c *cost) atLeast(elements int) time.Duration { return c.estimate(elements) * 3 / 4 }

// sizeWithin is how many elements can run in a time.
func (c *cost) sizeWithin(d time.Duration) int {
	if c.perOne <= 0 {
		return math.MaxInt
	}
	return int(min(max(0, (d.Seconds()-c.perRun)/c.perOne), math.MaxInt32))
}

// overhead is what a run costs whatever its size, in elements.
func (c *cost) overhead() float64 {
	const enough = 10 // runs
	if c.n < enough || c.perOne <= 0 {
		return defaultOverhead
	}
	return min(max(c.perRun/c.perOne, minOverhead), maxOverhead)
}

// doubt lowers the estimate.
func (c *cost) doubt() {
	const less = 0.9
	c.y *= less
	c.xy *= less
	c.perRun *= less
	c.perOne *= less
}
