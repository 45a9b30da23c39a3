package text

import (
	"unicode"
	"unicode/utf8"
)

// An addedToken is matched in raw text, before it is normalized.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // always false
	LeftStrip  bool   `json:"lstrip"`      // takes the white space before it along
	RightStrip bool   `json:"rstrip"`      // and after it
	Normalized bool   `json:"normalized"`  // always false
	Special    bool   `json:"special"`
}

// addedTokens finds added tokens in text: the leftmost, of those the longest.
type addedTokens struct {
	list   []addedToken // by ascending id
	byID   map[int32]int
	trie   *trie // of contents to indexes in list
	first  [256]bool
	common bool // some token is not special
}

func newAddedTokens(subject string, list []addedToken) (*addedTokens, error) {
	a := &addedTokens{list: list, byID: make(map[int32]int, len(list))}
	contents := make([]string, len(list))
	for i, token := range list {
		contents[i] = token.Content
		a.byID[token.ID] = i
		a.first[token.Content[0]] = true
		a.common = a.common || !token.Special
	}
	var err error
	a.trie, err = newTrie(subject, contents)
	return a, err
}

func (a *addedTokens) special(id int32) bool {
	i, ok := a.byID[id]
	return ok && a.list[i].Special
}

// find returns the first added token in text and the bytes that it takes up.
// Special tokens are passed over unless markup is set; as they are found
// before they are passed over, they still hide what they overlap.
func (a *addedTokens) find(text string, markup bool) (token *addedToken, start, end int) {
	if !markup && !a.common {
		return nil, len(text), len(text)
	}
	for i := 0; i < len(text); i++ {
		if !a.first[text[i]] {
			continue
		}
		index, size := longestPrefix(a.trie, 0, text[i:])
		if index == noID {
			continue
		}
		token := &a.list[index]
		if token.Special && !markup {
			i += size - 1
			continue
		}
		start, end := i, i+size
		for token.LeftStrip && start > 0 {
			r, size := utf8.DecodeLastRuneInString(text[:start])
			if !unicode.IsSpace(r) {
				break
			}
			start -= size
		}
		for token.RightStrip && end < len(text) {
			r, size := utf8.DecodeRuneInString(text[end:])
			if !unicode.IsSpace(r) {
				break
			}
			end += size
		}
		return token, start, end
	}
	return nil, len(text), len(text)
}
