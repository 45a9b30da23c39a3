package dataset

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on what a row may hold. A row beyond them is rejected, not cut.
const (
	MaxText     = 1 << 20 // bytes of a text
	MaxLabel    = 256     // bytes of a label
	MaxLanguage = 35      // bytes of a language, the longest common language tag
	MaxLabels   = 10_000  // different labels of a dataset
	maxTongues  = 256     // different languages of a dataset
	maxColumns  = 1_000   // columns of a file
)

// A Row is one example. Label is empty if the data has no labels.
type Row struct {
	Text     string
	Label    string
	Language string // lower-case tag: "en", "zh"
}

// Rows is a sequence of rows that can be read in any order: Records, or a
// Subset of them. Its methods may be called by several goroutines at once.
type Rows interface {
	Len() int
	At(i int) (Row, error)
}

// LanguageOf decides a text's language by its script: "zh" if it contains
// any Han character, else "en". It is for rows that do not say; data in other
// languages should map a language column.
func LanguageOf(text string) string {
	for _, r := range text {
		if r >= 0x2e80 && unicode.Is(unicode.Han, r) { // no Han character lies below
			return "zh"
		}
	}
	return "en"
}

// normalise writes the form of a text by which two rows count as the same
// text: lower case, each run of white space one space, none at the ends.
func normalise(dst []byte, text string) []byte {
	space := false
	for _, r := range text {
		if unicode.IsSpace(r) {
			space = true
			continue
		}
		if space && len(dst) > 0 {
			dst = append(dst, ' ')
		}
		space = false
		dst = utf8.AppendRune(dst, unicode.ToLower(r))
	}
	return dst
}

// checkLabel returns why s cannot be a label, or "".
func checkLabel(s string) string {
	switch {
	case s == "":
		return "no label"
	case len(s) > MaxLabel:
		return "the label is longer than 256 bytes"
	case !utf8.ValidString(s):
		return "the label is not valid UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "the label contains control characters"
	}
	return ""
}

// checkLanguage returns why s cannot be a language, or "".
func checkLanguage(s string) string {
	if len(s) > MaxLanguage {
		return "the language is longer than 35 bytes"
	}
	for _, c := range []byte(s) {
		if c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "the language is not a tag of letters, digits and dashes"
		}
	}
	return ""
}
