package text

import "unicode/utf8"

// A scanner yields the words of text under a folder.
type scanner struct {
	folder   *folder
	text     string
	at       int
	maxRunes int    // bytes of a word beyond as many code points are not kept
	buf      []byte // of the word

	invalid bool // text had bytes that are not UTF-8
	staged  bool // text must be normalized stage by stage: the words are void
}

func (s *scanner) reset(f *folder, text string) {
	s.folder, s.text, s.at = f, text, 0
	s.invalid, s.staged = false, false
}

// next returns the next word, its length in code points, and its id if the
// folder knows it, else noID. The length is 0 at the end. The word is valid
// until the next call, and cut if it is longer than maxRunes.
func (s *scanner) next() (word []byte, runes int, id int32) {
	f, text, i, buf := s.folder, s.text, s.at, s.buf[:0]
	for i < len(text) {
		if c := f.letters[text[i]]; c != 0 {
			if runes <= s.maxRunes {
				buf = append(buf, c)
			}
			runes++
			i++
			continue
		}
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			if r, size = utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && size == 1 {
				s.invalid = true
			}
		}
		page := f.page(r)
		x := &page.folds[r&0xFF]
		switch x.kind {
		case space:
			if runes > 0 {
				s.at, s.buf = i+size, buf
				return buf, runes, noID
			}
		case within:
			if runes <= s.maxRunes {
				buf = append(buf, page.text[x.at:x.at+uint32(x.size)]...)
			}
			runes += int(x.runes)
		case apart:
			s.buf = buf
			if runes > 0 {
				s.at = i
				return buf, runes, noID
			}
			s.at = i + size
			return page.text[x.at : x.at+uint32(x.size)], 1, x.id
		case staged:
			s.staged, s.at = true, len(text)
			return nil, 0, noID
		}
		i += size
	}
	s.at, s.buf = i, buf
	return buf, runes, noID
}
