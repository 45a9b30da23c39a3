package serving

// maxWaste bounds the padding of a run, as a share of it.
const maxWaste = 0.25

// window chooses which rows of a queue, ordered by size, run with the one at
// anchor: queue[low:high]. Each row joined saves the overhead of a run of its
// own, counted in elements, and pays for its padding to the largest; window
// finds the neighbours that save most together, at most rows of them and size
// elements with the padding.
func window[In, Out any](queue []*row[In, Out], anchor, rows, size int, overhead float64) (low, high int) {
	low, high = anchor, anchor+1
	best := 0.0
	forced := 0 // padding of the rows from anchor to top
	for top := anchor; top < len(queue) && top-anchor < rows; top++ {
		widest := queue[top].size
		if top > anchor {
			forced += (top - anchor) * (widest - queue[top-1].size)
		}
		n, padding := top-anchor+1, forced
		if n > 1 && widest*n > size {
			break
		}
		saved := float64(n-1)*overhead - float64(padding)
		from := anchor
		for from > 0 && n < rows && widest*(n+1) <= size {
			more := widest - queue[from-1].size
			if float64(more) >= overhead || wasteful(padding+more, widest*(n+1)) {
				break
			}
			from, n, padding = from-1, n+1, padding+more
			saved += overhead - float64(more)
		}
		if saved > best && !wasteful(padding, widest*n) {
			best, low, high = saved, from, top+1
		}
	}
	return low, high
}

func wasteful(padding, whole int) bool { return float64(padding) > maxWaste*float64(whole) }
