package text

// A normalizer is the steps through which text passes before it is split.
type normalizer []normalizerStep

// A normalizerStep is one of form and bertNormalizer.
type normalizerStep interface {
	// apply appends what src becomes to dst.
	apply(dst, src []rune) []rune
	// local reports whether src becomes the same whatever stands beside it,
	// provided that that is local too.
	local(src []rune) bool
	// section is the step as tokenizer.json has it.
	section() any
}

// apply normalizes src with two buffers and returns the result, which is in
// one of them, and both for the next call.
func (n normalizer) apply(src, spare []rune) (result, other []rune) {
	for _, step := range n {
		spare = step.apply(spare[:0], src)
		src, spare = spare, src
	}
	return src, spare
}

// bertNormalizer has the fields of the BertNormalizer of tokenizer.json. A
// StripAccents of nil follows Lowercase.
type bertNormalizer struct {
	CleanText          bool
	HandleChineseChars bool
	StripAccents       *bool
	Lowercase          bool
}

func (b bertNormalizer) stripsAccents() bool {
	if b.StripAccents == nil {
		return b.Lowercase
	}
	return *b.StripAccents
}

func (b bertNormalizer) apply(dst, src []rune) []rune {
	start, strips := len(dst), b.stripsAccents()
	for _, r := range src {
		if b.CleanText {
			if isControl(r) {
				continue
			}
			if isWhitespace(r) {
				r = ' '
			}
		}
		chinese := b.HandleChineseChars && isChinese(r)
		if chinese {
			dst = append(dst, ' ')
		}
		switch {
		case strips:
			dst = form{}.appendDecomposed(dst, r)
		case b.Lowercase && r == 'İ':
			dst = append(dst, 'i', 0x307)
		default:
			dst = append(dst, r)
		}
		if chinese {
			dst = append(dst, ' ')
		}
	}
	if strips {
		reorder(dst[start:])
		dst = dst[:start+stripMarks(dst[start:])]
	}
	if b.Lowercase {
		for i, r := range dst[start:] {
			dst[start+i] = lower(r)
		}
	}
	return dst
}

// local is false for the few marks that reorder and are not stripped.
func (b bertNormalizer) local(src []rune) bool {
	if !b.stripsAccents() {
		return true
	}
	for _, r := range b.apply(nil, src) {
		if combiningClass(r) != 0 {
			return false
		}
	}
	return true
}

// stripMarks removes nonspacing marks in place and returns the new length.
func stripMarks(runes []rune) int {
	n := 0
	for _, r := range runes {
		if r < 0x300 || !contains(nonspacingMarkRanges, r) {
			runes[n] = r
			n++
		}
	}
	return n
}
