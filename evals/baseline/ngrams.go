package baseline

import (
	"unicode"
	"unicode/utf8"
)

// Bounds on what a text gives.
const (
	maxTokens = 20_000 // of a text; what comes after is not read
	maxWord   = 64     // bytes; a longer word is no word
)

// ngrams calls yield with each 1-gram and 2-gram of a text in lower case:
// words and pairs of words ("stock", "stock market"), characters and pairs of
// characters of each run of Han or kana ("股", "股市"). Pairs do not reach
// across the border of the two. The bytes are valid during the call only.
func ngrams(text string, yield func(gram []byte)) {
	var s scanner
	s.yield = yield
	for _, r := range text {
		switch {
		case s.tokens >= maxTokens:
			return
		case unspaced(r):
			s.endWord()
			s.character(r)
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r):
			s.previousCharacter = s.previousCharacter[:0]
			s.word = utf8.AppendRune(s.word, unicode.ToLower(r))
		default:
			s.endWord()
			s.previousCharacter = s.previousCharacter[:0]
		}
	}
	s.endWord()
}

// unspaced tells the scripts that do not put spaces between words.
func unspaced(r rune) bool {
	return r >= 0x2e80 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana)
}

type scanner struct {
	yield             func([]byte)
	tokens            int
	word              []byte // being read
	previousWord      []byte
	previousCharacter []byte
	pair              []byte
}

func (s *scanner) endWord() {
	if len(s.word) == 0 {
		return
	}
	if len(s.word) > maxWord {
		s.word, s.previousWord = s.word[:0], s.previousWord[:0]
		return
	}
	s.tokens++
	s.yield(s.word)
	if len(s.previousWord) > 0 {
		s.pair = append(append(append(s.pair[:0], s.previousWord...), ' '), s.word...)
		s.yield(s.pair)
	}
	s.word, s.previousWord = s.previousWord[:0], s.word
}

func (s *scanner) character(r rune) {
	s.tokens++
	s.previousWord = s.previousWord[:0]
	before := len(s.previousCharacter)
	s.previousCharacter = utf8.AppendRune(s.previousCharacter, r)
	s.yield(s.previousCharacter[before:])
	if before > 0 {
		s.yield(s.previousCharacter)
	}
	s.previousCharacter = append(s.previousCharacter[:0], s.previousCharacter[before:]...)
}
