package text

import (
	"encoding/json"
	"strings"
	"testing"
)

// smallTokens is a vocabulary for tests: a token's id is its index.
var smallTokens = strings.Fields("[PAD] [UNK] [CLS] [SEP] [MASK] press room ##room news ##s e ##lect ##ion ! , [ ] # 新 闻 ， un ##un i ά ss")

// smallFile returns a tokenizer.json with the parts that the edits change:
// pairs of old and new text.
func smallFile(tb testing.TB, edits ...string) string {
	tb.Helper()
	vocab, err := vocabulary(smallTokens).MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	token := func(id int) string {
		b, err := json.Marshal(addedToken{ID: int32(id), Content: smallTokens[id], Special: true})
		if err != nil {
			tb.Fatal(err)
		}
		return string(b)
	}
	file := `{"version":"1.0","truncation":null,"padding":null,
"added_tokens":[` + token(0) + `,` + token(1) + `,` + token(2) + `,` + token(3) + `,` + token(4) + `],
"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
"pre_tokenizer":{"type":"BertPreTokenizer"},
"post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]},
"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":10,"vocab":` + string(vocab) + `}}`
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(file, edits[i]) {
			tb.Fatalf("%q is not in the file", edits[i])
		}
		file = strings.Replace(file, edits[i], edits[i+1], 1)
	}
	return file
}

func smallTokenizer(tb testing.TB, edits ...string) *Tokenizer {
	tb.Helper()
	t, err := Load(strings.NewReader(smallFile(tb, edits...)))
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

var goldenCases = []struct {
	text   string
	tokens string // of Encode, without [CLS] and [SEP]
	plain  string // of EncodePlain; "" if the same
}{
	{"", "", ""},
	{" \t\n\u3000", "", ""},
	{"press", "press", ""},
	{"PRESS, pressroom!", "press , press ##room !", ""},
	{"Élections", "e ##lect ##ion ##s", ""},
	{"E\u0301lections", "e ##lect ##ion ##s", ""},
	{"news\u200bnews", "[UNK]", ""}, // the joint vanishes; "newsnews" has no pieces
	{"un\u00adun", "un ##un", ""},
	{"新闻，press新", "新 闻 ， press 新", ""},
	{"新聞", "新 [UNK]", ""},
	{"unununununun", "[UNK]", ""}, // twelve characters, ten allowed
	{"ununununun", "un ##un ##un ##un ##un", ""},
	{"##room", "# # room", ""},
	{"press\xffroom \xe6\x96", "press ##room", ""},
	{"Ά", "[UNK]", ""}, // the accent goes before the case
	{"İ", "i", ""},
	{"ẞ", "[UNK]", ""},
	{"[MASK] news", "[MASK] news", "[ [UNK] ] news"},
	{"press[SEP]!", "press [SEP] !", "press [ [UNK] ] !"},
	{"[mask]", "[ [UNK] ]", ""},
	{"a\u0315\u0300\u05ae", "[UNK]", ""},
}
