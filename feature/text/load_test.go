package text

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"galley"
)

func TestLoadRefuses(t *testing.T) {
	nfc := strings.Repeat(`{"type":"NFC"},`, 5) + `{"type":"NFC"}`
	many := `{"type":"Sequence","normalizers":[{"type":"Sequence","normalizers":[` + nfc + `]},` + nfc + `]}`
	deep := `{"type":"Sequence","normalizers":[{"type":"Sequence","normalizers":[{"type":"Sequence","normalizers":[]}]}]}`
	bert := `{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}`
	sequence := `{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Strip"}]}`
	for _, c := range []struct{ old, new, subject, message string }{
		{`"version":"1.0"`, `"version":"2.0"`, "version", `"2.0" is not supported`},
		{`"version":"1.0",`, ``, "version", "is missing"},
		{`"version"`, `"version":"1.0","version"`, "version", "is there twice"},
		{`"padding":null`, `"padding":null,"extra":1`, "extra", "not a field"},
		{`"padding":null`, `"padding":{"strategy":{"Fixed":-1}}`, "padding.strategy.Fixed", "-1 is not within"},
		{`"truncation":null`, `"truncation":{"direction":"Left","max_length":8,"strategy":"LongestFirst","stride":0}`, "truncation.direction", `"Left" is not supported`},
		{`"truncation":null`, `"truncation":{"direction":"Right","max_length":0,"strategy":"LongestFirst","stride":0}`, "truncation.max_length", "0 is not within"},
		{`"type":"BertNormalizer"`, `"type":"Lowercase"`, "normalizer.type", `"Lowercase" is not supported`},
		{bert, many, "normalizer.normalizers", "more than 8 steps"},
		{bert, deep, "normalizer.normalizers[0].normalizers[0].normalizers", "nested too deep"},
		{bert, sequence, "normalizer.normalizers[1].type", `"Strip" is not supported`},
		{`"clean_text":true`, `"clean_text":1`, "normalizer.clean_text", "is not true or false"},
		{`"clean_text":true,`, ``, "normalizer.clean_text", "is missing"},
		{`"lowercase":true`, `"lowercase":true,"case":1`, "normalizer.case", "not a field"},
		{`"BertPreTokenizer"`, `"ByteLevel"`, "pre_tokenizer.type", `"ByteLevel" is not supported`},
		{`{"type":"BertPreTokenizer"}`, `{"type":"Sequence","pretokenizers":[{"type":"BertPreTokenizer"},{"type":"Split","pattern":{"Regex":"x"},"behavior":"Isolated","invert":false}]}`, "pre_tokenizer.pretokenizers[1].pattern.Regex", `"x" is not supported`},
		{`{"type":"BertPreTokenizer"}`, `{"type":"Sequence","pretokenizers":[]}`, "pre_tokenizer.pretokenizers", "has 0 items"},
		{`{"type":"BertPreTokenizer"}`, `null`, "pre_tokenizer", "is not an object"},
		{`"BertProcessing"`, `"RobertaProcessing"`, "post_processor.type", "is not supported"},
		{`["[SEP]",3]`, `["[SEP]",300]`, "post_processor.sep", "is not a token"},
		{`"type":"WordPiece","prefix"`, `"type":"BPEDecoder","prefix"`, "decoder.type", "is not supported"},
		{`"type":"WordPiece","unk_token"`, `"type":"BPE","unk_token"`, "model.type", `"BPE" is not supported`},
		{`"unk_token":"[UNK]"`, `"unk_token":"<unk>"`, "model.unk_token", "not in the vocabulary"},
		{`"unk_token":"[UNK]",`, ``, "model.unk_token", "is missing"},
		{`"max_input_chars_per_word":10`, `"max_input_chars_per_word":1000000000`, "model.max_input_chars_per_word", "is not within"},
		{`"max_input_chars_per_word":10`, `"max_input_chars_per_word":"10"`, "model.max_input_chars_per_word", "is not an integer"},
		{`"press":5`, `"press":6`, "model.vocab", "two tokens have the id 6"},
		{`"press":5`, `"press":600`, "model.vocab", "have a hole"},
		{`"press":5`, `"press":-5`, "model.vocab", "have a hole"},
		{`"press":5`, `"press":null`, "model.vocab", "is not an integer"},
		{`"press":5`, `"room":5`, "model.vocab", "twice"},
		{`"press":5`, `"` + strings.Repeat("p", 2000) + `":5`, "model.vocab", "2000 bytes"},
		{`"id":4,`, `"id":5,`, "added_tokens[4].id", "is 5 where the vocabulary makes it 4"},
		{`"content":"[MASK]"`, `"content":"[SEP]"`, "added_tokens[4].content", "added twice"},
		{`"content":"[MASK]"`, `"content":""`, "added_tokens[4].content", "is empty"},
		{`"single_word":false`, `"single_word":true`, "added_tokens[0].single_word", "not supported"},
		{`"normalized":false`, `"normalized":true`, "added_tokens[0].normalized", "not supported"},
		{`{"version"`, `[{"version"`, "", "is not valid JSON"},
		{`"press":5`, "\"pre\xffss\":5", "", "is not valid UTF-8"},
	} {
		_, err := Load(strings.NewReader(smallFile(t, c.old, c.new)))
		var coded *galley.Error
		if !errors.As(err, &coded) {
			t.Errorf("%s for %s: error %v", c.new, c.old, err)
			continue
		}
		subject := strings.TrimSpace(fileName + " " + c.subject)
		if coded.Code != galley.InvalidArgument || coded.Subject != subject || !strings.Contains(coded.Message, c.message) {
			t.Errorf("%.60s for %s: %s %q: %q, want %q: %q", c.new, c.old, coded.Code, coded.Subject, coded.Message, subject, c.message)
		}
	}
}

func TestLoadRefusesTemplates(t *testing.T) {
	valid := `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],` +
		`"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],` +
		`"special_tokens":{"[CLS]":{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]}}}`
	old := `{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]}`
	tok := smallTokenizer(t, old, valid)
	if ids, _ := tok.Encode(nil, "news", 0); spell(tok, ids) != "[CLS] news" {
		t.Errorf("%v under a template that ends with the text", ids)
	}
	for _, c := range []struct{ old, new, subject string }{
		{`"[CLS]":{"id"`, `"[SEP]":{"id"`, "special_tokens.[SEP].id"},
		{`"special_tokens":{"[CLS]":{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]}}`, `"special_tokens":{}`, "special_tokens"},
		{`"ids":[2]`, `"ids":[99]`, "special_tokens.[CLS].ids"},
		{`"ids":[2]`, `"ids":[]`, "special_tokens.[CLS].ids"},
		{`{"Sequence":{"id":"A","type_id":0}}]`, `{"Sequence":{"id":"B","type_id":0}}]`, "single"},
		{`{"Sequence":{"id":"B","type_id":1}}`, `{"Sequence":{"id":"A","type_id":1}}`, "pair"},
		{`{"Sequence":{"id":"B","type_id":1}}`, `{"Text":{}}`, "pair[1].SpecialToken"},
	} {
		_, err := Load(strings.NewReader(smallFile(t, old, strings.Replace(valid, c.old, c.new, 1))))
		var coded *galley.Error
		if want := fileName + " post_processor." + c.subject; !errors.As(err, &coded) || coded.Subject != want {
			t.Errorf("%s for %s: %v, want an error about %s", c.new, c.old, err, want)
		}
	}
}

func TestLoadReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	if _, err := Load(iotest.ErrReader(broken)); !errors.Is(err, broken) || galley.CodeOf(err) != galley.Unavailable {
		t.Errorf("%v", err)
	}
}

func TestLoadTooLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 64 MB")
	}
	_, err := Load(endless{})
	if galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func save(tb testing.TB, tok *Tokenizer) []byte {
	tb.Helper()
	var b bytes.Buffer
	if n, err := tok.WriteTo(&b); err != nil || n != int64(b.Len()) {
		tb.Fatalf("%d of %d bytes: %v", n, b.Len(), err)
	}
	return b.Bytes()
}

// checkSaveLoad checks that what is saved is read as what it was.
func checkSaveLoad(tb testing.TB, tok *Tokenizer) {
	tb.Helper()
	first := save(tb, tok)
	again, err := Load(bytes.NewReader(first))
	if err != nil {
		tb.Fatalf("cannot read what was saved: %v\n%.2000s", err, first)
	}
	if second := save(tb, again); !bytes.Equal(first, second) {
		tb.Fatalf("saved\n%.2000s\nthen\n%.2000s", first, second)
	}
	if tok.Digest() != again.Digest() || tok.Digest() != galley.DigestBytes(first) || tok.Special() != again.Special() || tok.VocabSize() != again.VocabSize() {
		tb.Fatalf("%+v became %+v", tok.Special(), again.Special())
	}
	for _, c := range goldenCases {
		before, _ := tok.Encode(nil, c.text, 0)
		after, _ := again.Encode(nil, c.text, 0)
		if spell(tok, before) != spell(again, after) {
			tb.Fatalf("%+q: %v became %v", c.text, before, after)
		}
	}
}

func TestSaveLoad(t *testing.T) {
	toks := append(testedTokenizers(t),
		smallTokenizer(t, `"decoder":{"type":"WordPiece","prefix":"##","cleanup":true}`, `"decoder":null`),
		smallTokenizer(t, `"post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]}`, `"post_processor":null`),
		smallTokenizer(t, `"truncation":null`, `"truncation":{"direction":"Right","max_length":9,"strategy":"OnlyFirst","stride":2}`),
		smallTokenizer(t, `"padding":null`, `"padding":{"strategy":{"Fixed":8},"direction":"Left","pad_to_multiple_of":4,"pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"}`),
		smallTokenizer(t, `"strip_accents":null`, `"strip_accents":false`),
		smallTokenizer(t, `"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}`, `"normalizer":null`),
		smallTokenizer(t, `],
"normalizer"`, `,{"id":26,"content":"<desk>","single_word":false,"lstrip":true,"rstrip":true,"normalized":false,"special":false}],
"normalizer"`),
	)
	for _, tok := range toks {
		checkSaveLoad(t, tok)
	}
	last := toks[len(toks)-1]
	ids, _ := last.EncodePlain(nil, "press \u3000<desk> news[MASK]<desk>", 0)
	if got := spell(last, ids); got != "[CLS] press <desk> news [ [UNK] ] <desk> [SEP]" || last.VocabSize() != 27 {
		t.Errorf("%s of %d tokens", got, last.VocabSize())
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(smallFile(f)))
	for _, tok := range []string{`"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"}]}`, `"model":{"type":"WordPiece","vocab":{"a":0}}`} {
		f.Add([]byte(`{"version":"1.0",` + tok + `}`))
	}
	learnt, err := Train(f.Context(), func(yield func(string) bool) { yield("新闻 press") }, TrainOptions{Model: Character, MinFrequency: 1, FoldWidth: true, MaxLength: 8})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(save(f, learnt))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Load(bytes.NewReader(data))
		if err != nil {
			if galley.CodeOf(err) != galley.InvalidArgument {
				t.Fatalf("%v", err)
			}
			return
		}
		checkSaveLoad(t, tok)
	})
}
