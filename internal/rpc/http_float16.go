package rpc

import "math"

// float16Bits rounds to the nearest IEEE 754 half-precision number, ties to
// even; what is too large becomes an infinity.
func float16Bits(x float32) uint16 {
	b := math.Float32bits(x)
	sign, b := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case b >= 0x477ff000: // 65520, from where on 65504 is not the nearest
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14, the smallest normal number
		// The sum's last place is 2^-24, as a subnormal's: adding rounds.
		sum := math.Float32frombits(b) + 0.5
		return sign | uint16(math.Float32bits(sum)-math.Float32bits(0.5))
	default:
		b += 0xfff + b>>13&1
		return sign | uint16((b-(127-15)<<23)>>13)
	}
}

// bfloat16Bits rounds to the nearest bfloat16, ties to even.
func bfloat16Bits(x float32) uint16 {
	b := math.Float32bits(x)
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
