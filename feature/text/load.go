package text

import (
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"galley"
)

// What a tokenizer.json may hold.
const (
	maxFileBytes      = 64 << 20
	maxVocabulary     = 1 << 20
	maxTokenBytes     = 1 << 10
	maxAddedTokens    = 1 << 16
	maxWordRunes      = 1 << 16
	maxSequenceLength = 1 << 24
	maxNormalizers    = 8 // each may make text longer
)

// Load reads a tokenizer.json. What it reads behaves as it does in Hugging
// Face tokenizers; a normalizer, model or setting of which that cannot be said
// is an error that names the field.
func Load(r io.Reader) (*Tokenizer, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err != nil {
		var coded *galley.Error
		if errors.As(err, &coded) {
			return nil, err
		}
		return nil, galley.Errorf(galley.Unavailable, fileName, "cannot be read: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, invalid("", "has more than %d bytes", maxFileBytes)
	}
	if !utf8.Valid(data) {
		return nil, invalid("", "is not valid UTF-8")
	}
	if !json.Valid(data) {
		return nil, invalid("", "is not valid JSON").WithRemedy("save it with galley or with Hugging Face tokenizers")
	}
	p, err := parse(data)
	if err != nil {
		return nil, err
	}
	return newTokenizer(p)
}

func parse(data []byte) (parts, error) {
	var p parts
	o := parseObject("", data)
	o.oneOf("version", "1.0")
	if o.has("truncation") {
		p.trunc = parseTruncation(o)
	}
	if o.has("padding") {
		p.padding = parsePadding(o)
	}
	if o.has("normalizer") {
		p.normalizer = parseNormalizer(o, "normalizer", nil, 0)
	}
	p.characters = parsePreTokenizer(o)
	p.decoder = parseDecoder(o)
	parseModel(o, &p)
	if o.has("added_tokens") {
		p.added = parseAddedTokens(o, p.tokens)
	}
	p.template = parseTemplate(o, len(p.tokens)+len(p.added))
	return p, o.end()
}

// adopt makes the first error of a member the object's.
func (o *object) adopt(child *object) {
	if err := child.end(); o.err == nil && err != nil {
		o.err = err
	}
}

func parseTruncation(o *object) *truncation {
	c := o.child("truncation")
	t := &truncation{
		Direction: c.oneOf("direction", "Right"),
		MaxLength: c.number("max_length", 1, maxSequenceLength),
		Strategy:  c.oneOf("strategy", "LongestFirst", "OnlyFirst"),
		Stride:    c.number("stride", 0, maxSequenceLength),
	}
	o.adopt(c)
	return t
}

func parsePadding(o *object) *padding {
	c := o.child("padding")
	p := &padding{Strategy: c.raw("strategy")}
	if c.err == nil && string(p.Strategy) != `"BatchLongest"` {
		fixed := parseObject(c.at("strategy"), p.Strategy)
		fixed.number("Fixed", 1, maxSequenceLength)
		c.adopt(fixed)
	}
	p.Direction = c.oneOf("direction", "Left", "Right")
	if c.has("pad_to_multiple_of") {
		n := c.number("pad_to_multiple_of", 0, maxSequenceLength)
		p.MultipleOf = &n
	}
	p.ID = int32(c.number("pad_id", 0, maxVocabulary))
	p.TypeID = c.number("pad_type_id", 0, maxVocabulary)
	p.Token = c.text("pad_token")
	o.adopt(c)
	return p
}
