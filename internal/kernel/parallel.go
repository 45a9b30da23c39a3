package kernel

import (
	"sync"
	"sync/atomic"
)

// chunk is the number of elements that a thread takes at a time: small enough
// to share work evenly, large enough to hide what handing it out costs.
const chunk = 1 << 16

// Parallel calls fn(begin, end) for [0, n) cut into chunks of the given size,
// on up to threads goroutines. The chunks are the same for any number of
// threads; only which goroutine takes which differs. It panics if size < 1.
func Parallel(threads, n, size int, fn func(begin, end int)) {
	if size < 1 {
		panic("kernel: chunks must have a size")
	}
	chunks := (n + size - 1) / size
	if threads = min(threads, chunks); threads <= 1 {
		for begin := 0; begin < n; begin += size {
			fn(begin, min(begin+size, n))
		}
		return
	}
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= chunks {
				return
			}
			fn(i*size, min((i+1)*size, n))
		}
	}
	var group sync.WaitGroup
	for range threads - 1 {
		group.Go(work)
	}
	work()
	group.Wait()
}
