package perturb

import (
	"math/rand/v2"
	"slices"
)

// numbers replaces each run of digits by another one of the same length that
// begins with 0 only if the run does: prices, scores and years change, what
// the text is about does not. Digits of full width count; numerals of Chinese
// are words, and stay.
func numbers(text []rune, random *rand.Rand) []rune {
	for i := 0; i < len(text); {
		zero := zeroOf(text[i])
		end := i
		for end < len(text) && zero != 0 && zeroOf(text[end]) == zero {
			end++
		}
		if end > i {
			replaceRun(text[i:end], zero, random)
		}
		i = max(end, i+1)
	}
	return text
}

// zeroOf is the zero of a digit's kind, 0 of what is no digit.
func zeroOf(r rune) rune {
	for _, zero := range []rune{'0', '０'} {
		if r >= zero && r < zero+10 {
			return zero
		}
	}
	return 0
}

func replaceRun(run []rune, zero rune, random *rand.Rand) {
	before := slices.Clone(run)
	for i := range run {
		least := 0
		if i == 0 && before[0] != zero {
			least = 1
		}
		run[i] = zero + rune(least+random.IntN(10-least))
	}
	if slices.Equal(run, before) { // another last digit; of a single one, not 0
		last := len(run) - 1
		run[last] = zero + (run[last]-zero+1)%10
		if last == 0 && run[0] == zero && before[0] != zero {
			run[0] = zero + 1
		}
	}
}
