package scheduler

import "math"

// A Kind is a kind of resource.
type Kind int

// The kinds of resources, and their units.
const (
	CPU    Kind = iota // thousandths of a core
	Memory             // bytes
	GPU                // devices
)

// Kinds are all kinds, in the order of Resources.
var Kinds = [...]Kind{CPU, Memory, GPU}

// String names the kind.
func (k Kind) String() string { return [...]string{"cpu", "memory", "gpu"}[k] }

// Resources are an amount of each kind, none below 0:
//
//	scheduler.Resources{scheduler.CPU: 2000, scheduler.Memory: 1 << 30}
type Resources [len(Kinds)]int64

func (r Resources) plus(o Resources) Resources {
	for k := range r {
		if r[k] > math.MaxInt64-o[k] {
			r[k] = math.MaxInt64
			continue
		}
		r[k] += o[k]
	}
	return r
}

// minus subtracts, down to 0.
func (r Resources) minus(o Resources) Resources {
	for k := range r {
		r[k] = max(0, r[k]-o[k])
	}
	return r
}

func (r Resources) times(n int64) Resources {
	for k := range r {
		if r[k] > 0 && n > math.MaxInt64/r[k] {
			r[k] = math.MaxInt64
			continue
		}
		r[k] *= n
	}
	return r
}

func (r Resources) least(o Resources) Resources {
	for k := range r {
		r[k] = min(r[k], o[k])
	}
	return r
}

func (r Resources) holds(o Resources) bool {
	for k := range r {
		if o[k] > r[k] {
			return false
		}
	}
	return true
}

// count is how many pods fit into r, at most n.
func (r Resources) count(pod Resources, n int64) int64 {
	for k := range r {
		if pod[k] > 0 {
			n = min(n, r[k]/pod[k])
		}
	}
	return n
}

// positive drops amounts below 0, which mean nothing.
func (r Resources) positive() Resources {
	for k := range r {
		r[k] = max(0, r[k])
	}
	return r
}
