package text

// wordPiece splits a word into the longest pieces of the vocabulary, from the
// left. Pieces after the first are looked up with a prefix.
type wordPiece struct {
	tokens   []string // by id
	unknown  int32
	prefix   string
	maxRunes int // a longer word is unknown

	trie *trie
	rest uint32 // the node from which pieces after the first are looked up
	// restless is set when no token begins with the prefix: there are no
	// pieces after the first.
	restless bool
}

func newWordPiece(subject string, tokens []string, unknown int32, prefix string, maxRunes int) (*wordPiece, error) {
	t, err := newTrie(subject, tokens)
	if err != nil {
		return nil, err
	}
	w := &wordPiece{tokens: tokens, unknown: unknown, prefix: prefix, maxRunes: maxRunes, trie: t}
	w.rest = t.walk(prefix)
	w.restless = prefix != "" && w.rest == 0
	return w, nil
}

// append appends the ids of a word of that many code points to dst.
func (w *wordPiece) append(dst []int32, word []byte, runes int) []int32 {
	if runes > w.maxRunes {
		return append(dst, w.unknown)
	}
	start := len(dst)
	id, size := longestPrefix(w.trie, 0, word)
	for {
		if id == noID {
			return append(dst[:start], w.unknown)
		}
		dst = append(dst, id)
		if word = word[size:]; len(word) == 0 {
			return dst
		}
		if w.restless {
			return append(dst[:start], w.unknown)
		}
		id, size = longestPrefix(w.trie, w.rest, word)
	}
}
