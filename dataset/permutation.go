package dataset

import "math/bits"

// A Permutation is an order of the numbers [0, n) that depends on seed and
// epoch alone and takes no memory: a Feistel network over the next even power
// of two, applied again while the result lies beyond n (cycle walking; under
// four applications on average, since the domain is less than 4n or small).
type Permutation struct {
	n    uint64
	half uint // bits of each half of the domain
	keys [feistelRounds]uint64
}

const feistelRounds = 6

// permutationKey tells the keys of an order from other uses of the seed.
const permutationKey = 3

// NewPermutation makes the order of n rows for an epoch. n must not be
// negative.
func NewPermutation(seed, epoch uint64, n int) Permutation {
	p := Permutation{n: uint64(n)}
	// At least three bits a half: smaller halves leave too few orders apart.
	p.half = max(3, uint(bits.Len64(max(p.n, 1)-1)+1)/2)
	for i := range p.keys {
		p.keys[i] = derive(seed, permutationKey, epoch, uint64(i))
	}
	return p
}

// Len is the number of elements.
func (p *Permutation) Len() int { return int(p.n) }

// At returns the element at place i, which must lie in [0, n).
func (p *Permutation) At(i int) int {
	x := uint64(i)
	for {
		x = p.encrypt(x)
		if x < p.n {
			return int(x)
		}
	}
}

func (p *Permutation) encrypt(x uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	left, right := x>>p.half, x&mask
	for _, key := range p.keys {
		left, right = right, left^mix(right^key)>>(64-p.half)
	}
	return left<<p.half | right
}
