package text

import "strings"

// A decoder says how tokens are put together again.
type decoder struct {
	kind    decoderKind
	prefix  string // of WordPiece: marks a token that goes on with the last
	cleanup bool   // of WordPiece: closes the spaces before English punctuation
}

type decoderKind string

const (
	decoderNone      decoderKind = ""          // tokens with spaces between
	decoderWordPiece decoderKind = "WordPiece" // words with spaces between
	decoderFuse      decoderKind = "Fuse"      // nothing between
)

// cleanups are applied one after the other, to each token by itself.
var cleanups = []struct{ from, to string }{
	{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
	{" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
}

// Decode puts ids together to text, without the special tokens. What the
// normalizer changed or dropped does not come back. Ids out of range are
// passed over.
func (t *Tokenizer) Decode(ids []int32) string {
	var b strings.Builder
	first := true
	for _, id := range ids {
		token := t.Token(id)
		if token == "" || t.added.special(id) {
			continue
		}
		b.WriteString(t.decoder.join(token, first))
		first = false
	}
	return b.String()
}

// join returns what token adds to the text.
func (d decoder) join(token string, first bool) string {
	switch d.kind {
	case decoderFuse:
		return token
	case decoderNone:
		if first {
			return token
		}
		return " " + token
	}
	if !first {
		if rest, goesOn := strings.CutPrefix(token, d.prefix); goesOn {
			token = rest
		} else {
			token = " " + token
		}
	}
	if d.cleanup {
		for _, c := range cleanups {
			token = strings.ReplaceAll(token, c.from, c.to)
		}
	}
	return token
}

func (d decoder) section() any {
	switch d.kind {
	case decoderNone:
		return nil
	case decoderFuse:
		return struct {
			Type decoderKind `json:"type"`
		}{d.kind}
	}
	return struct {
		Type    decoderKind `json:"type"`
		Prefix  string      `json:"prefix"`
		Cleanup bool        `json:"cleanup"`
	}{d.kind, d.prefix, d.cleanup}
}
