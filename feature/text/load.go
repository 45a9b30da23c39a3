package text

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
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

func parseNormalizer(o *object, name string, steps normalizer, depth int) normalizer {
	c := o.child(name)
	steps = normalizerSteps(c, steps, depth)
	o.adopt(c)
	return steps
}

func normalizerSteps(c *object, steps normalizer, depth int) normalizer {
	switch kind := c.oneOf("type", "BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Sequence"); {
	case c.err != nil:
		return nil
	case kind == "Sequence":
		list := c.list("normalizers")
		if depth > 1 {
			c.fail("normalizers", "is nested too deep")
			return nil
		}
		for i, raw := range list {
			item := c.item("normalizers", i, raw)
			if steps = normalizerSteps(item, steps, depth+1); len(steps) > maxNormalizers {
				c.fail("normalizers", "has more than %d steps, nested ones among them", maxNormalizers)
			}
			if c.adopt(item); c.err != nil {
				return nil
			}
		}
	case kind == "BertNormalizer":
		b := bertNormalizer{
			CleanText:          c.flag("clean_text"),
			HandleChineseChars: c.flag("handle_chinese_chars"),
			Lowercase:          c.flag("lowercase"),
		}
		if c.has("strip_accents") {
			strip := c.flag("strip_accents")
			b.StripAccents = &strip
		}
		return append(steps, b)
	default:
		return append(steps, formNames[kind])
	}
	return steps
}

// parsePreTokenizer reports whether each code point is a word.
func parsePreTokenizer(o *object) (characters bool) {
	c := o.child("pre_tokenizer")
	defer func() { o.adopt(c) }()
	if c.oneOf("type", "BertPreTokenizer", "Sequence") != "Sequence" || c.err != nil {
		return false
	}
	list := c.list("pretokenizers")
	if c.err == nil && len(list) != 2 {
		c.fail("pretokenizers", "has %d items; galley reads BertPreTokenizer and then Split", len(list))
	}
	if c.err != nil {
		return false
	}
	words := c.item("pretokenizers", 0, list[0])
	words.oneOf("type", "BertPreTokenizer")
	c.adopt(words)
	split := c.item("pretokenizers", 1, list[1])
	split.oneOf("type", "Split")
	pattern := split.child("pattern")
	pattern.oneOf("Regex", anyCharacter)
	split.adopt(pattern)
	split.oneOf("behavior", "Isolated")
	if split.flag("invert") {
		split.fail("invert", "true is not supported")
	}
	c.adopt(split)
	return true
}

func parseDecoder(o *object) (d decoder) {
	if !o.has("decoder") {
		return d
	}
	c := o.child("decoder")
	d.kind = decoderKind(c.oneOf("type", string(decoderWordPiece), string(decoderFuse)))
	if d.kind == decoderWordPiece {
		d.prefix = c.text("prefix")
		d.cleanup = c.flag("cleanup")
	}
	o.adopt(c)
	return d
}

func parseModel(o *object, p *parts) {
	c := o.child("model")
	c.oneOf("type", "WordPiece")
	unknown := c.text("unk_token")
	p.prefix = c.text("continuing_subword_prefix")
	p.maxRunes = c.number("max_input_chars_per_word", 1, maxWordRunes)
	raw := c.raw("vocab")
	if c.err == nil {
		p.tokens, c.err = parseVocabulary(c.at("vocab"), raw)
	}
	if c.err == nil {
		p.unknown = int32(slices.Index(p.tokens, unknown))
		if p.unknown < 0 {
			c.fail("unk_token", "%q is not in the vocabulary", clip(unknown))
		}
	}
	o.adopt(c)
}

// parseVocabulary returns the tokens by id. The ids must be 0, 1, 2 and so on
// in any order.
func parseVocabulary(path string, raw json.RawMessage) ([]string, error) {
	ids := map[string]int{}
	err := eachMember(path, raw, func(token string, value json.RawMessage) error {
		var id int
		switch _, twice := ids[token]; {
		case twice:
			return invalid(path, "has the token %q twice", clip(token))
		case len(token) > maxTokenBytes:
			return invalid(path, "has a token of %d bytes, at most %d are allowed", len(token), maxTokenBytes)
		case len(ids) == maxVocabulary:
			return invalid(path, "has more than %d tokens", maxVocabulary)
		case json.Unmarshal(value, &id) != nil || string(value) == "null":
			return invalid(path, "the id of %q is not an integer", clip(token))
		}
		ids[token] = id
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, invalid(path, "is empty")
	}
	tokens, taken := make([]string, len(ids)), make([]bool, len(ids))
	for token, id := range ids {
		if id < 0 || id >= len(ids) {
			return nil, invalid(path, "the ids have a hole: there are %d tokens and an id %d", len(ids), id)
		}
		if taken[id] {
			return nil, invalid(path, "two tokens have the id %d", id)
		}
		tokens[id], taken[id] = token, true
	}
	return tokens, nil
}

func parseAddedTokens(o *object, tokens []string) []addedToken {
	list := o.list("added_tokens")
	if len(list) > maxAddedTokens {
		o.fail("added_tokens", "has %d items, at most %d are allowed", len(list), maxAddedTokens)
	}
	if o.err != nil {
		return nil
	}
	known := make(map[string]int, len(tokens))
	for id, token := range tokens {
		known[token] = id
	}
	seen := map[string]bool{}
	next := len(tokens)
	added := make([]addedToken, 0, len(list))
	for i, raw := range list {
		c := o.item("added_tokens", i, raw)
		token := addedToken{
			ID:         int32(c.number("id", 0, maxVocabulary+maxAddedTokens)),
			Content:    c.text("content"),
			SingleWord: c.flag("single_word"),
			LeftStrip:  c.flag("lstrip"),
			RightStrip: c.flag("rstrip"),
			Normalized: c.flag("normalized"),
			Special:    c.flag("special"),
		}
		id, inModel := known[token.Content]
		if !inModel {
			id = next
		}
		switch {
		case c.err != nil:
		case token.Content == "":
			c.fail("content", "is empty")
		case seen[token.Content]:
			c.fail("content", "%q is added twice", clip(token.Content))
		case token.SingleWord:
			c.fail("single_word", "true is not supported")
		case token.Normalized:
			c.fail("normalized", "true is not supported: the token would be looked for in normalized text")
		case int(token.ID) != id:
			c.fail("id", "is %d where the vocabulary makes it %d", token.ID, id)
		case !inModel:
			next++
		}
		o.adopt(c)
		if o.err != nil {
			return nil
		}
		seen[token.Content] = true
		added = append(added, token)
	}
	slices.SortFunc(added, func(a, b addedToken) int { return int(a.ID) - int(b.ID) })
	return added
}

func parseTemplate(o *object, vocabulary int) template {
	if !o.has("post_processor") {
		return template{none: true}
	}
	c := o.child("post_processor")
	var t template
	switch c.oneOf("type", "TemplateProcessing", "BertProcessing") {
	case "BertProcessing":
		class, classID := parseTokenPair(c, "cls", vocabulary)
		separator, separatorID := parseTokenPair(c, "sep", vocabulary)
		t = bertTemplate(class, classID, separator, separatorID)
	case "TemplateProcessing":
		t.Single = parsePieces(c, "single", "A")
		t.Pair = parsePieces(c, "pair", "A", "B")
		t.SpecialTokens = parseTemplateTokens(c, vocabulary)
		if name, ok := t.resolve(); !ok {
			c.fail("special_tokens", "lacks %q, which the template names", clip(name))
		}
	}
	o.adopt(c)
	return t
}

// parseTokenPair takes ["[CLS]", 101].
func parseTokenPair(o *object, name string, vocabulary int) (token string, id int32) {
	list := o.list(name)
	if o.err == nil && (len(list) != 2 || json.Unmarshal(list[0], &token) != nil || json.Unmarshal(list[1], &id) != nil ||
		id < 0 || int(id) >= vocabulary || len(token) > maxTokenBytes) {
		o.fail(name, "is not a token and its id")
	}
	return token, id
}

// maxPieces bounds a template: real ones have five.
const maxPieces = 64

// parsePieces takes a list of pieces in which each of the sequences occurs
// once.
func parsePieces(o *object, name string, sequences ...string) []templatePiece {
	list := o.list(name)
	if len(list) > maxPieces {
		o.fail(name, "has %d pieces, at most %d are allowed", len(list), maxPieces)
		return nil
	}
	var pieces []templatePiece
	var found []string
	for i, raw := range list {
		c := o.item(name, i, raw)
		kind := "SpecialToken"
		if c.has("Sequence") {
			kind = "Sequence"
		}
		inner := c.child(kind)
		piece := templatePiece{kind == "SpecialToken", inner.text("id"), inner.number("type_id", 0, maxVocabulary)}
		c.adopt(inner)
		o.adopt(c)
		if !piece.special {
			found = append(found, piece.ID)
		}
		pieces = append(pieces, piece)
	}
	slices.Sort(found)
	if o.err == nil && !slices.Equal(found, sequences) {
		o.fail(name, "does not have the sequence %s once", strings.Join(sequences, " and "))
	}
	return pieces
}

func parseTemplateTokens(o *object, vocabulary int) map[string]templateToken {
	c := o.child("special_tokens")
	defer func() { o.adopt(c) }()
	if c.err != nil {
		return nil
	}
	if len(c.members) > maxPieces {
		o.fail("special_tokens", "has %d tokens, at most %d are allowed", len(c.members), maxPieces)
		return nil
	}
	tokens := map[string]templateToken{}
	names := make([]string, 0, len(c.members))
	for name := range c.members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		inner := c.child(name)
		token := templateToken{ID: inner.text("id")}
		inner.decode("ids", "a list of ids", &token.IDs)
		inner.decode("tokens", "a list of tokens", &token.Tokens)
		bad := func(id int32) bool { return id < 0 || int(id) >= vocabulary }
		switch {
		case inner.err != nil:
		case token.ID != name:
			inner.fail("id", "is %q under the name %q", clip(token.ID), clip(name))
		case len(token.IDs) > maxPieces || len(token.IDs) != len(token.Tokens):
			inner.fail("ids", "are not as many as the tokens")
		case slices.ContainsFunc(token.IDs, bad):
			inner.fail("ids", "has an id beyond the vocabulary")
		}
		c.adopt(inner)
		tokens[name] = token
	}
	return tokens
}
