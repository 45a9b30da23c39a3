package text

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// anyCharacter is the pattern that makes each code point a word.
const anyCharacter = "."

// truncation is the section of that name.
type truncation struct {
	Direction string `json:"direction"`
	MaxLength int    `json:"max_length"`
	Strategy  string `json:"strategy"`
	Stride    int    `json:"stride"`
}

// padding is the section of that name. Encode does not pad; batches do.
type padding struct {
	Strategy   json.RawMessage `json:"strategy"`
	Direction  string          `json:"direction"`
	MultipleOf *int            `json:"pad_to_multiple_of"`
	ID         int32           `json:"pad_id"`
	TypeID     int             `json:"pad_type_id"`
	Token      string          `json:"pad_token"`
}

// vocabulary is written as an object in the order of the ids.
type vocabulary []string

func (v vocabulary) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for id, token := range v {
		if id > 0 {
			b = append(b, ',')
		}
		quoted, err := json.Marshal(token)
		if err != nil {
			return nil, err
		}
		b = append(append(b, quoted...), ':')
		b = strconv.AppendInt(b, int64(id), 10)
	}
	return append(b, '}'), nil
}

func (b bertNormalizer) section() any {
	return struct {
		Type               string `json:"type"`
		CleanText          bool   `json:"clean_text"`
		HandleChineseChars bool   `json:"handle_chinese_chars"`
		StripAccents       *bool  `json:"strip_accents"`
		Lowercase          bool   `json:"lowercase"`
	}{"BertNormalizer", b.CleanText, b.HandleChineseChars, b.StripAccents, b.Lowercase}
}

func (f form) section() any {
	for name, other := range formNames {
		if f == other {
			return struct {
				Type string `json:"type"`
			}{name}
		}
	}
	return nil
}

func (n normalizer) section() any {
	switch len(n) {
	case 0:
		return nil
	case 1:
		return n[0].section()
	}
	steps := make([]any, len(n))
	for i, step := range n {
		steps[i] = step.section()
	}
	return struct {
		Type        string `json:"type"`
		Normalizers []any  `json:"normalizers"`
	}{"Sequence", steps}
}

func (p *splitter) section() any {
	type named struct {
		Type string `json:"type"`
	}
	words := named{"BertPreTokenizer"}
	if !p.characters {
		return words
	}
	type pattern struct{ Regex string }
	type split struct {
		Type     string  `json:"type"`
		Pattern  pattern `json:"pattern"`
		Behavior string  `json:"behavior"`
		Invert   bool    `json:"invert"`
	}
	return struct {
		Type          string `json:"type"`
		PreTokenizers []any  `json:"pretokenizers"`
	}{"Sequence", []any{words, split{"Split", pattern{anyCharacter}, "Isolated", false}}}
}

func (w *wordPiece) section(unknown string) any {
	return struct {
		Type     string     `json:"type"`
		Unknown  string     `json:"unk_token"`
		Prefix   string     `json:"continuing_subword_prefix"`
		MaxRunes int        `json:"max_input_chars_per_word"`
		Tokens   vocabulary `json:"vocab"`
	}{"WordPiece", unknown, w.prefix, w.maxRunes, w.tokens}
}

// marshal returns the tokenizer.json. Every part came from a file or from
// Train, so that none fails to encode.
func (t *Tokenizer) marshal() []byte {
	added := t.added.list
	if added == nil {
		added = []addedToken{}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(struct {
		Version       string       `json:"version"`
		Truncation    *truncation  `json:"truncation"`
		Padding       *padding     `json:"padding"`
		AddedTokens   []addedToken `json:"added_tokens"`
		Normalizer    any          `json:"normalizer"`
		PreTokenizer  any          `json:"pre_tokenizer"`
		PostProcessor any          `json:"post_processor"`
		Decoder       any          `json:"decoder"`
		Model         any          `json:"model"`
	}{
		"1.0", t.trunc, t.padding, added, t.splitter.normalizer.section(), t.splitter.section(),
		t.template.section(), t.decoder.section(), t.model.section(t.model.tokens[t.model.unknown]),
	})
	return b.Bytes()
}
