package text

// Info is what there is to know about the encoding of a text.
type Info struct {
	// Tokens is the number of tokens, those of the template included, before
	// truncation.
	Tokens int
	// Truncated is set when the text has more tokens than were returned.
	Truncated bool
	// InvalidUTF8 is set when the text had bytes that are not UTF-8.
	InvalidUTF8 bool
}

// Encode appends the ids of text to dst, between the tokens of the template:
// [CLS] before, [SEP] after. At most maxLength ids are appended; a longer text
// loses its end, not the final [SEP]. A maxLength of 0 or less stands for
// MaxLength, and for no limit if that is 0. Nothing is padded. Encode
// allocates nothing if dst has room.
//
// Special tokens spelled out in text, such as [MASK], are special, as they are
// to the encode of Hugging Face tokenizers: an exported model answers the same
// there as here. EncodePlain is for text that must not have that power.
func (t *Tokenizer) Encode(dst []int32, text string, maxLength int) ([]int32, Info) {
	return t.encode(dst, text, maxLength, true)
}

// EncodePlain is Encode but for special tokens spelled out in text, which are
// text: a "[SEP]" that a user types does not end what the model reads. Hugging
// Face tokenizers does the same with encode_special_tokens set.
func (t *Tokenizer) EncodePlain(dst []int32, text string, maxLength int) ([]int32, Info) {
	return t.encode(dst, text, maxLength, false)
}

func (t *Tokenizer) encode(dst []int32, text string, maxLength int, markup bool) ([]int32, Info) {
	if maxLength <= 0 {
		maxLength = t.MaxLength()
	}
	prefix, suffix := t.template.prefix, t.template.suffix
	room := int(^uint(0) >> 1)
	if maxLength > 0 {
		room = max(0, maxLength-len(prefix)-len(suffix))
		suffix = suffix[max(0, len(suffix)-maxLength):]
		prefix = prefix[:min(len(prefix), maxLength-len(suffix))]
	}
	s := t.scratch.Get().(*scratch)
	body := sink{ids: append(dst, prefix...), room: room}
	var info Info
	for len(text) > 0 {
		token, start, end := t.added.find(text, markup)
		if t.segment(&body, s, text[:start]) {
			info.InvalidUTF8 = true
		}
		if token != nil {
			body.add(token.ID)
		}
		text = text[end:]
	}
	if s.scanner.text = ""; !s.large() {
		t.scratch.Put(s)
	}
	info.Tokens = len(t.template.prefix) + body.total + len(t.template.suffix)
	ids := append(body.ids, suffix...)
	info.Truncated = info.Tokens > len(ids)-len(dst)
	return ids, info
}

// segment adds the ids of text, which has no added tokens, and reports whether
// it had invalid bytes.
func (t *Tokenizer) segment(body *sink, s *scratch, text string) (invalid bool) {
	before := *body
	words := t.splitter.scan(s, text)
	t.words(body, s, words)
	if words.staged {
		*body = before
		words = t.splitter.rescan(s, text)
		t.words(body, s, words)
	}
	return words.invalid
}

func (t *Tokenizer) words(body *sink, s *scratch, words *scanner) {
	for {
		word, runes, id := words.next()
		switch {
		case runes == 0:
			return
		case id != noID:
			body.add(id)
		default:
			s.pieces = t.model.append(s.pieces[:0], word, runes)
			for _, id := range s.pieces {
				body.add(id)
			}
		}
	}
}

// A sink keeps the first ids and counts all.
type sink struct {
	ids   []int32
	room  int
	total int
}

func (s *sink) add(id int32) {
	if s.total < s.room {
		s.ids = append(s.ids, id)
	}
	s.total++
}
