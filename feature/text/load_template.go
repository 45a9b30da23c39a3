package text

import (
	"encoding/json"
	"slices"
	"strings"
)

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
