package perturb

import (
	"math/rand/v2"
	"slices"
	"sync"
	"unicode"
)

// traditional and simplified map characters to their variant in the other
// script. Of several variants a character has the one that is met most often
// where that script is written: without a dictionary of words some come out
// wrong.
var (
	traditional = sync.OnceValue(func() map[rune]rune { return pairs(simplifiedTraditional) })
	simplified  = sync.OnceValue(func() map[rune]rune { return pairs(traditionalSimplified) })
)

// pairs reads a table of characters, each before its variant.
func pairs(table string) map[rune]rune {
	out := make(map[rune]rune, len(table)/6)
	var from rune
	for _, r := range table {
		if from == 0 {
			from = r
			continue
		}
		out[from], from = r, 0
	}
	return out
}

// converted returns the edit that maps characters. Japanese texts stay: their
// characters are not of either script.
func converted(to func() map[rune]rune) func([]rune, *rand.Rand) []rune {
	return func(text []rune, _ *rand.Rand) []rune {
		if slices.ContainsFunc(text, kana) {
			return text
		}
		table := to()
		for i, r := range text {
			if variant, ok := table[r]; ok {
				text[i] = variant
			}
		}
		return text
	}
}

func kana(r rune) bool { return unicode.In(r, unicode.Hiragana, unicode.Katakana) }
