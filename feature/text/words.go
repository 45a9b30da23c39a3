package text

import (
	"cmp"
	"slices"
)

// A countedWord is a word and how often it was seen.
type countedWord struct {
	word  string
	count int64
}

// A wordTable counts words in bounded memory.
type wordTable struct {
	most   int // distinct words held
	counts map[string]*int64
}

func newWordTable(most int) *wordTable {
	return &wordTable{most: most, counts: map[string]*int64{}}
}

func (t *wordTable) add(word []byte) {
	if n, ok := t.counts[string(word)]; ok {
		*n++
		return
	}
	if len(t.counts) >= t.most {
		t.prune()
	}
	n := int64(1)
	t.counts[string(word)] = &n
}

// prune forgets the rarest words until at most half of the words that fit are
// left. Of equally rare ones all are forgotten, so that no order decides.
func (t *wordTable) prune() {
	counts := make([]int64, 0, len(t.counts))
	for _, n := range t.counts {
		counts = append(counts, *n)
	}
	slices.Sort(counts)
	rare := counts[len(counts)-1-t.most/2]
	for word, n := range t.counts {
		if *n <= rare {
			delete(t.counts, word)
		}
	}
}

// sorted returns the words in their byte order.
func (t *wordTable) sorted() []countedWord {
	words := make([]countedWord, 0, len(t.counts))
	for word, n := range t.counts {
		words = append(words, countedWord{word, *n})
	}
	slices.SortFunc(words, func(a, b countedWord) int { return cmp.Compare(a.word, b.word) })
	return words
}
