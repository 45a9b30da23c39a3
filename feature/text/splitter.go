package text

import (
	"unicode/utf8"
	"unsafe"
)

// A splitter is the way from text to words, for a normalizer and a
// pre-tokenizer. It is safe for concurrent use.
type splitter struct {
	normalizer normalizer
	characters bool
	fast       *folder // normalizes and splits
	plain      *folder // splits what has been normalized
	maxRunes   int
}

func newSplitter(n normalizer, characters bool, maxRunes int, model *wordPiece) *splitter {
	return &splitter{
		normalizer: n,
		characters: characters,
		fast:       newFolder(n, characters, model),
		plain:      newFolder(nil, characters, model),
		maxRunes:   maxRunes,
	}
}

// scratch is the memory that one text needs at a time.
type scratch struct {
	scanner      scanner
	runes, spare []rune
	normalized   []byte
	pieces       []int32
}

// maxScratch is the size in code points beyond which scratch is not kept.
const maxScratch = 1 << 16

func (s *scratch) large() bool { return cap(s.runes)+cap(s.spare) > maxScratch }

// scan prepares the scanner of s to yield the words of text.
func (p *splitter) scan(s *scratch, text string) *scanner {
	s.scanner.maxRunes = p.maxRunes
	s.scanner.reset(p.fast, text)
	return &s.scanner
}

// rescan prepares the scanner of s to yield the words of text, which it found
// to be staged.
func (p *splitter) rescan(s *scratch, text string) *scanner {
	s.runes = s.runes[:0]
	invalid := false
	for i, r := range text {
		if r == utf8.RuneError && !invalid {
			_, size := utf8.DecodeRuneInString(text[i:])
			invalid = size == 1
		}
		s.runes = append(s.runes, r)
	}
	s.runes, s.spare = p.normalizer.apply(s.runes, s.spare)
	s.normalized = s.normalized[:0]
	for _, r := range s.runes {
		s.normalized = utf8.AppendRune(s.normalized, r)
	}
	// The string lives as long as the scan, during which normalized is left
	// alone.
	s.scanner.reset(p.plain, unsafe.String(unsafe.SliceData(s.normalized), len(s.normalized)))
	s.scanner.invalid = invalid
	return &s.scanner
}
