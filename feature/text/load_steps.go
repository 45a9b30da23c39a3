package text

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
