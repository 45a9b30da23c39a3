package kernel

import "math"

// dropoutChunk is a thread's share of a mask; a multiple of four.
const dropoutChunk = chunk

// DropoutMask fills dst with a mask to multiply by: 0 with probability p, else
// 1/(1-p). A p of 0 or less, or NaN, gives ones; one of 1 or more zeros.
//
// Element i depends on (p, seed, stream, offset+i) only: it compares word
// (offset+i)%4 of Philox4x32-10 at counter ((offset+i)/4, stream) under key
// seed with p*2^32. So a mask may be filled in any pieces, on any number of
// threads; a stream per use of dropout and step keeps masks apart.
func DropoutMask(dst []float32, p float32, seed, stream, offset uint64, threads int) {
	if !(p > 0) || p >= 1 {
		fill := float32(1)
		if p >= 1 {
			fill = 0
		}
		for i := range dst {
			dst[i] = fill
		}
		return
	}
	threshold := uint32(math.Ceil(float64(p) * (1 << 32))) // p is at most 1-2^-24
	keep := float32(1 / (1 - float64(p)))
	// A piece of a block at each end comes from a whole block beside.
	if head := int(offset % 4); head != 0 {
		var block [4]float32
		dropout(block[:], seed, stream, offset/4, threshold, keep)
		n := copy(dst, block[head:])
		dst, offset = dst[n:], offset+uint64(n)
	}
	whole := len(dst) &^ 3
	Parallel(threads, whole, dropoutChunk, func(i, j int) {
		dropout(dst[i:j], seed, stream, offset/4+uint64(i/4), threshold, keep)
	})
	if whole < len(dst) {
		var block [4]float32
		dropout(block[:], seed, stream, offset/4+uint64(whole/4), threshold, keep)
		copy(dst[whole:], block[:])
	}
}
