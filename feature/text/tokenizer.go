package text

import (
	"bytes"
	"io"
	"sync"

	"galley"
)

// A Tokenizer turns text into token ids and back. It does not change and is
// safe for concurrent use.
type Tokenizer struct {
	model    *wordPiece
	splitter *splitter
	added    *addedTokens
	template template
	decoder  decoder
	trunc    *truncation
	padding  *padding

	special Special
	scratch sync.Pool
	// canonical is the tokenizer.json that WriteTo writes.
	canonical func() []byte
}

// Special has the ids of the tokens that are not text, -1 for one that the
// tokenizer lacks.
type Special struct {
	Pad       int32 // fills up short rows of a batch
	Unknown   int32 // a word that the vocabulary cannot make up
	Class     int32 // begins a text
	Separator int32 // ends a text
	Mask      int32 // hides a token in masked pretraining
}

// parts is what a tokenizer is made of, read from a file or learnt.
type parts struct {
	tokens     []string // of the model, by id
	unknown    int32
	prefix     string
	maxRunes   int
	normalizer normalizer
	characters bool
	added      []addedToken
	template   template
	decoder    decoder
	trunc      *truncation
	padding    *padding
}

func newTokenizer(p parts) (*Tokenizer, error) {
	model, err := newWordPiece(fileName+" model.vocab", p.tokens, p.unknown, p.prefix, p.maxRunes)
	if err != nil {
		return nil, err
	}
	added, err := newAddedTokens(fileName+" added_tokens", p.added)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{
		model:    model,
		splitter: newSplitter(p.normalizer, p.characters, p.maxRunes, model),
		added:    added,
		template: p.template,
		decoder:  p.decoder,
		trunc:    p.trunc,
		padding:  p.padding,
	}
	t.scratch.New = func() any { return new(scratch) }
	t.canonical = sync.OnceValue(t.marshal)
	t.special = Special{
		Pad:       t.first("[PAD]", "<pad>"),
		Unknown:   p.unknown,
		Class:     t.first("[CLS]", "<s>"),
		Separator: t.first("[SEP]", "</s>"),
		Mask:      t.first("[MASK]", "<mask>"),
	}
	if p.padding != nil {
		t.special.Pad = p.padding.ID
	}
	if ids := p.template.prefix; len(ids) > 0 {
		t.special.Class = ids[0]
	}
	if ids := p.template.suffix; len(ids) > 0 {
		t.special.Separator = ids[len(ids)-1]
	}
	return t, nil
}

// first returns the id of the first of names that is a token, or -1.
func (t *Tokenizer) first(names ...string) int32 {
	for _, name := range names {
		if id, ok := t.ID(name); ok {
			return id
		}
	}
	return noID
}

// VocabSize returns the number of ids, which run from 0 without a gap.
func (t *Tokenizer) VocabSize() int {
	n := len(t.model.tokens)
	if last := len(t.added.list) - 1; last >= 0 {
		n = max(n, int(t.added.list[last].ID)+1)
	}
	return n
}

// ID returns the id of a token as the vocabulary spells it.
func (t *Tokenizer) ID(token string) (int32, bool) {
	if i := t.added.trie.lookup(token); i != noID {
		return t.added.list[i].ID, true
	}
	id := t.model.trie.lookup(token)
	return id, id != noID
}

// Token returns the spelling of an id, "" for one out of range.
func (t *Tokenizer) Token(id int32) string {
	if i, ok := t.added.byID[id]; ok {
		return t.added.list[i].Content
	}
	if id < 0 || int(id) >= len(t.model.tokens) {
		return ""
	}
	return t.model.tokens[id]
}

// Special returns the ids of the special tokens.
func (t *Tokenizer) Special() Special { return t.special }

// MaxLength returns the most tokens that the tokenizer's own truncation
// leaves, 0 if it has none.
func (t *Tokenizer) MaxLength() int {
	if t.trunc == nil {
		return 0
	}
	return t.trunc.MaxLength
}

// WriteTo writes the tokenizer as a tokenizer.json. The bytes depend on the
// tokenizer alone.
func (t *Tokenizer) WriteTo(w io.Writer) (int64, error) {
	return bytes.NewReader(t.canonical()).WriteTo(w)
}

// Digest returns the digest of what WriteTo writes.
func (t *Tokenizer) Digest() galley.Digest { return galley.DigestBytes(t.canonical()) }
