package text

import (
	"slices"
	"unicode"
)

// runeRange is lo to hi, both included.
type runeRange struct{ lo, hi rune }

// caseRange moves every stride-th code point from lo to hi by delta.
type caseRange struct{ lo, hi, stride, delta rune }

func contains(ranges []runeRange, r rune) bool {
	_, found := slices.BinarySearchFunc(ranges, r, func(x runeRange, r rune) int {
		switch {
		case x.hi < r:
			return -1
		case x.lo > r:
			return 1
		}
		return 0
	})
	return found
}

// chineseRanges are the code points that handle_chinese_chars sets apart. The
// gap before U+2B920 is in the original too.
var chineseRanges = []runeRange{
	{0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, {0xF900, 0xFAFF}, {0x20000, 0x2A6DF},
	{0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F},
}

func isChinese(r rune) bool     { return r >= 0x3400 && contains(chineseRanges, r) }
func isControl(r rune) bool     { return contains(controlRanges, r) }
func isPunctuation(r rune) bool { return contains(punctuationRanges, r) }

// isWhitespace is the White_Space property, which no longer grows.
func isWhitespace(r rune) bool { return unicode.IsSpace(r) }

// lower returns the lower case of r without regard to its neighbours: a final
// sigma is a sigma. The one code point whose lower case is two, İ, is left to
// the caller.
func lower(r rune) rune {
	if r < 0x80 {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	i, found := slices.BinarySearchFunc(lowerRanges, r, func(x caseRange, r rune) int {
		switch {
		case x.hi < r:
			return -1
		case x.lo > r:
			return 1
		}
		return 0
	})
	if found {
		if x := lowerRanges[i]; (r-x.lo)%x.stride == 0 {
			r += x.delta
		}
	}
	return r
}
