package kernel

// philox is Philox4x32-10, the counter-based random function of Salmon et al.,
// "Parallel random numbers: as easy as 1, 2, 3" (2011): four uniform words for
// each 128-bit counter (low half, high half) under a 64-bit key.
func philox(low, high, key uint64) [4]uint32 {
	const (
		multiplier0, multiplier1 = 0xD2511F53, 0xCD9E8D57
		weyl0, weyl1             = 0x9E3779B9, 0xBB67AE85
	)
	x := [4]uint32{uint32(low), uint32(low >> 32), uint32(high), uint32(high >> 32)}
	k0, k1 := uint32(key), uint32(key>>32)
	for range 10 {
		p0 := multiplier0 * uint64(x[0])
		p1 := multiplier1 * uint64(x[2])
		x = [4]uint32{uint32(p1>>32) ^ x[1] ^ k0, uint32(p1), uint32(p0>>32) ^ x[3] ^ k1, uint32(p0)}
		k0 += weyl0
		k1 += weyl1
	}
	return x
}
