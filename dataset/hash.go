package dataset

import "math/bits"

// mix is a bijection of 64-bit numbers that spreads every input bit over all
// output bits (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// golden is 2^64 divided by the golden ratio: multiples of it never repeat
// and lie far apart.
const golden = 0x9e3779b97f4a7c15

// derive makes a key from a seed and numbers that tell its uses apart. The
// same arguments give the same key on every machine, forever: frozen splits
// and resumed jobs rely on it.
func derive(seed uint64, parts ...uint64) uint64 {
	k := mix(seed + golden)
	for _, p := range parts {
		k = mix(k ^ mix(p+golden)*golden)
	}
	return k
}

// hashBytes hashes b under a key: FNV-1a over 8-byte words, mixed. It need not
// resist an adversary, who could only unbalance his own split.
func hashBytes(key uint64, b []byte) uint64 {
	h := key ^ uint64(len(b))*golden
	for ; len(b) >= 8; b = b[8:] {
		w := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		h = mix(h^w) + golden
	}
	var w uint64
	for i, c := range b {
		w |= uint64(c) << (8 * i)
	}
	return mix(h ^ mix(w+golden))
}

// below maps a hash to [0, n) evenly.
func below(hash, n uint64) uint64 {
	hi, _ := bits.Mul64(hash, n)
	return hi
}

// unit maps a hash to [0, 1).
func unit(hash uint64) float64 { return float64(hash>>11) / (1 << 53) }
