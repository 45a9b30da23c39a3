package text

import (
	"cmp"
	"context"
	"slices"
	"unicode/utf8"
)

// learn returns the vocabulary, which begins with the special tokens.
func learn(ctx context.Context, words []countedWord, o TrainOptions) ([]string, error) {
	a := newAlphabet(words, o)
	if o.Model == Character {
		return a.tokens, nil
	}
	m := newMerger(a, words)
	return m.run(ctx, o.VocabSize, int64(o.MinFrequency))
}

// An alphabet is the vocabulary before anything is joined: special tokens,
// characters as they begin words, characters as they go on.
type alphabet struct {
	tokens      []string
	first, rest map[rune]int32
}

// characterFrequency is how often a character is seen at least, if the pieces
// must be seen more often: a character is the least that a word can be made
// of, and Chinese has many rare ones.
const characterFrequency = 2

// newAlphabet takes the most frequent characters that fit, those seen at least
// MinFrequency times or twice.
func newAlphabet(words []countedWord, o TrainOptions) alphabet {
	type character struct {
		r     rune
		count int64
		rest  bool // it goes on with a word somewhere
	}
	seen := map[rune]*character{}
	for _, w := range words {
		for i, r := range w.word {
			c := seen[r]
			if c == nil {
				c = &character{r: r}
				seen[r] = c
			}
			c.count += w.count
			c.rest = c.rest || i > 0
		}
	}
	var list []*character
	for _, c := range seen {
		if c.count >= int64(min(o.MinFrequency, characterFrequency)) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *character) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.r, b.r))
	})
	room := o.VocabSize - len(specialTokens)
	for i, c := range list {
		room--
		if c.rest {
			room--
		}
		if room < 0 {
			list = list[:i]
			break
		}
	}
	slices.SortFunc(list, func(a, b *character) int { return cmp.Compare(a.r, b.r) })

	a := alphabet{tokens: slices.Clone(specialTokens), first: map[rune]int32{}, rest: map[rune]int32{}}
	for _, c := range list {
		a.first[c.r] = int32(len(a.tokens))
		a.tokens = append(a.tokens, string(c.r))
	}
	for _, c := range list {
		if c.rest {
			a.rest[c.r] = int32(len(a.tokens))
			a.tokens = append(a.tokens, continuation+string(c.r))
		}
	}
	return a
}

// spell returns a word as ids of the alphabet; ok is false if a character is
// not in it.
func (a alphabet) spell(dst []int32, word string) (ids []int32, ok bool) {
	for i, r := range word {
		table := a.rest
		if i == 0 {
			table = a.first
		}
		id, ok := table[r]
		if !ok {
			return dst, false
		}
		dst = append(dst, id)
	}
	return dst, utf8.ValidString(word)
}
