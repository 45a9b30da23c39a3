package text

import (
	"sync/atomic"
	"unicode/utf8"
)

// A folder is a normalizer and a pre-tokenizer as one table: what each code
// point becomes. It has a page for each 256 code points, made when text first
// needs it.
type folder struct {
	normalizer normalizer
	// characters makes each code point a word of its own.
	characters bool
	// model gives words of one code point their id; nil when only the words
	// are wanted.
	model *wordPiece
	// letters are the ASCII characters that become one byte of a word, 0 for
	// the others.
	letters [256]byte
	pages   [(utf8.MaxRune + 1) >> 8]atomic.Pointer[page]
}

type page struct {
	folds [256]fold
	text  []byte
}

// A fold is what one code point becomes.
type fold struct {
	kind  foldKind
	runes uint8
	size  uint8  // of the bytes in the page's text
	at    uint32 // where they begin
	id    int32  // of an apart fold, when the folder has a model
}

type foldKind uint8

const (
	dropped foldKind = iota // nothing
	space                   // the end of a word
	within                  // part of a word
	apart                   // a word by itself
	staged                  // to be normalized stage by stage, with its neighbours
)

func newFolder(n normalizer, characters bool, model *wordPiece) *folder {
	f := &folder{normalizer: n, characters: characters, model: model}
	ascii := f.page(0)
	for c := range utf8.RuneSelf {
		if x := ascii.folds[c]; x.kind == within && x.size == 1 {
			f.letters[c] = ascii.text[x.at]
		}
	}
	return f
}

func (f *folder) page(r rune) *page {
	slot := &f.pages[r>>8]
	if p := slot.Load(); p != nil {
		return p
	}
	p := new(page)
	for i := range p.folds {
		p.folds[i] = f.fold(p, r&^0xFF|rune(i))
	}
	slot.Store(p) // two goroutines may make the same page; either will do
	return p
}

// fold appends the text of r to p and returns its fold.
func (f *folder) fold(p *page, r rune) fold {
	runes := []rune{r}
	for _, step := range f.normalizer {
		if !step.local(runes) {
			return fold{kind: staged}
		}
		runes = step.apply(nil, runes)
	}
	x := fold{id: noID, runes: uint8(len(runes)), at: uint32(len(p.text))}
	x.kind = f.kind(runes)
	if x.kind == apart {
		for isWhitespace(runes[0]) {
			runes = runes[1:]
		}
		runes, x.runes = runes[:1], 1
	}
	p.text = append(p.text, string(runes)...)
	x.size = uint8(len(p.text) - int(x.at))
	if x.kind == apart && f.model != nil {
		x.id = f.model.append(nil, p.text[x.at:], 1)[0]
	}
	return x
}

// kind classifies what one code point became. That which holds several words
// is rare enough to be staged.
func (f *folder) kind(runes []rune) foldKind {
	spaces, parts := 0, 0
	for _, r := range runes {
		switch {
		case isWhitespace(r):
			spaces++
		case f.characters || isPunctuation(r):
			parts++
		}
	}
	n := len(runes)
	switch {
	case n == 0:
		return dropped
	case spaces == n:
		return space
	case spaces == 0 && parts == 0:
		return within
	case parts == 1 && spaces == n-1:
		return apart
	case n == 3 && isWhitespace(runes[0]) && !isWhitespace(runes[1]) && isWhitespace(runes[2]):
		return apart
	}
	return staged
}
