package text

import (
	"encoding/json"
	"slices"
)

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
