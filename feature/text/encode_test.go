package text

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func spell(t *Tokenizer, ids []int32) string {
	tokens := make([]string, len(ids))
	for i, id := range ids {
		tokens[i] = t.Token(id)
	}
	return strings.Join(tokens, " ")
}

func TestEncodeGolden(t *testing.T) {
	tok := smallTokenizer(t)
	for _, c := range goldenCases {
		if c.plain == "" {
			c.plain = c.tokens
		}
		ids, info := tok.Encode(nil, c.text, 0)
		if got, want := spell(tok, ids), strings.Join(strings.Fields("[CLS] "+c.tokens+" [SEP]"), " "); got != want {
			t.Errorf("%+q: %s, want %s", c.text, got, want)
		}
		if info.InvalidUTF8 == utf8.ValidString(c.text) || info.Truncated || info.Tokens != len(ids) {
			t.Errorf("%+q: %+v", c.text, info)
		}
		ids, _ = tok.EncodePlain(nil, c.text, 0)
		if got, want := spell(tok, ids), strings.Join(strings.Fields("[CLS] "+c.plain+" [SEP]"), " "); got != want {
			t.Errorf("%+q plain: %s, want %s", c.text, got, want)
		}
	}
}

func TestEncodeTruncates(t *testing.T) {
	tok := smallTokenizer(t)
	for length, want := range []string{
		"[CLS] press , news ! [SEP]", "[SEP]", "[CLS] [SEP]", "[CLS] press [SEP]", "[CLS] press , [SEP]",
		"[CLS] press , news [SEP]", "[CLS] press , news ! [SEP]", "[CLS] press , news ! [SEP]",
	} {
		dst := []int32{7}
		ids, info := tok.Encode(dst, "press, news!", length)
		if got := spell(tok, ids[1:]); ids[0] != 7 || got != want {
			t.Errorf("length %d: %s, want %s", length, got, want)
		}
		if truncated := length > 0 && length < 6; info != (Info{Tokens: 6, Truncated: truncated}) {
			t.Errorf("length %d: %+v", length, info)
		}
	}
	limited := smallTokenizer(t, `"truncation":null`, `"truncation":{"direction":"Right","max_length":3,"strategy":"LongestFirst","stride":0}`)
	if ids, info := limited.Encode(nil, "press, news!", 0); len(ids) != 3 || !info.Truncated || limited.MaxLength() != 3 {
		t.Errorf("%v %+v under a truncation to %d", ids, info, limited.MaxLength())
	}
}

// drawText draws text that is likely to meet every stage.
func drawText(t *rapid.T) string {
	piece := rapid.OneOf(
		rapid.StringN(0, 8, -1),
		rapid.SampledFrom([]string{" ", "press", "新闻", "[MASK]", "é", "e\u0301", "\u302e", "\u0315", "Ａ１", "㍿", "…", "각", "\u1100\u1161", "\xff", "\xe6\x96", "\u200d"}),
		rapid.StringOfN(rapid.RuneFrom([]rune("abcdeEXI-.,' ")), 0, 20, -1),
	)
	return strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")
}

func testedTokenizers(t *testing.T) []*Tokenizer {
	corpus := []string{"press room news press", "the newsroom's élite, 新闻 新华社 …", "Ａ１ ㍿ 각 각 é e\u0301", "elections elect election"}
	toks := []*Tokenizer{smallTokenizer(t)}
	for _, o := range []TrainOptions{
		{MinFrequency: 1, Lowercase: true}, {MinFrequency: 1, FoldWidth: true}, {MinFrequency: 1, FoldWidth: true, Lowercase: true, Model: Character},
	} {
		tok, err := Train(t.Context(), slices.Values(corpus), o)
		if err != nil {
			t.Fatal(err)
		}
		toks = append(toks, tok)
	}
	return toks
}

// TestTableAgreesWithStages holds the two ways from text to words against each
// other.
func TestTableAgreesWithStages(t *testing.T) {
	for _, tok := range testedTokenizers(t) {
		rapid.Check(t, func(t *rapid.T) {
			text := drawText(t)
			var s scratch
			collect := func(words *scanner) (list []string) {
				for {
					word, runes, _ := words.next()
					if runes == 0 {
						return list
					}
					if runes > tok.splitter.maxRunes {
						word = fmt.Appendf(nil, "a word of %d code points", runes)
					}
					list = append(list, string(word))
				}
			}
			words := tok.splitter.scan(&s, text)
			table := collect(words)
			staged, invalid := words.staged, words.invalid
			if staged {
				return
			}
			words = tok.splitter.rescan(&s, text)
			stages := collect(words)
			if !slices.Equal(table, stages) || invalid != words.invalid {
				t.Fatalf("%+q: the table gives %+q, the stages %+q", text, table, stages)
			}
		})
	}
}

func TestEncodeProperties(t *testing.T) {
	for _, tok := range testedTokenizers(t) {
		rapid.Check(t, func(t *rapid.T) {
			text := drawText(t)
			length := rapid.IntRange(1, 40).Draw(t, "length")
			checkEncode(t, tok, text, length)
		})
	}
}

// checkEncode checks what holds for every text.
func checkEncode(t rapid.TB, tok *Tokenizer, text string, length int) {
	whole, info := tok.Encode(nil, text, 0)
	if info.Tokens != len(whole) || info.Truncated || info.InvalidUTF8 == utf8.ValidString(text) {
		t.Fatalf("%+q: %d ids, %+v", text, len(whole), info)
	}
	special := tok.Special()
	if whole[0] != special.Class || whole[len(whole)-1] != special.Separator {
		t.Fatalf("%+q: %v is not between %+v", text, whole, special)
	}
	for _, id := range whole {
		token := tok.Token(id)
		if back, ok := tok.ID(token); !ok || back != id || int(id) >= tok.VocabSize() {
			t.Fatalf("%+q: id %d is %q, which is id %d", text, id, token, back)
		}
	}
	cut, short := tok.Encode(nil, text, length)
	if len(cut) != min(length, len(whole)) || short.Tokens != len(whole) || short.Truncated != (len(whole) > length) {
		t.Fatalf("%+q cut to %d: %d ids, %+v", text, length, len(cut), short)
	}
	if n := len(cut) - 1; cut[n] != special.Separator || !slices.Equal(cut[:n], whole[:n]) {
		t.Fatalf("%+q cut to %d: %v of %v", text, length, cut, whole)
	}
	plain, _ := tok.EncodePlain(nil, text, 0)
	for _, id := range plain[1 : len(plain)-1] {
		if id != special.Unknown && tok.added.special(id) {
			t.Fatalf("%+q: plain text gives %v with the special token %q", text, plain, tok.Token(id))
		}
	}
	decoded := tok.Decode(whole)
	if !utf8.ValidString(decoded) {
		t.Fatalf("%+q: decoded to %+q", text, decoded)
	}
}

func TestEncodeDecodeRoundTrip(t *testing.T) {
	tok := smallTokenizer(t, `"cleanup":true`, `"cleanup":false`)
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.SampledFrom([]string{"press", "pressroom", "news", "elections", "新", "!", ",", "un", "ununun"})).Draw(t, "words")
		text := strings.Join(words, " ")
		ids, _ := tok.Encode(nil, text, 0)
		if got := tok.Decode(ids); got != text {
			t.Fatalf("%q came back as %q", text, got)
		}
	})
}

func TestEncodeAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools")
	}
	tok := smallTokenizer(t)
	dst := make([]int32, 0, 64)
	text := "PRESS, pressroom! 新闻 Élections [MASK] \xff"
	if n := testing.AllocsPerRun(100, func() { tok.Encode(dst, text, 32) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestEncodeLongText bounds the time that hostile text takes: it is linear.
func TestEncodeLongText(t *testing.T) {
	tok := smallTokenizer(t)
	for _, piece := range []string{"a", " ", "[", "[MASK]", "新", "press ", "\u302e\u0315", "\u0300\u302f\u302e", "\xff"} {
		text := strings.Repeat(piece, 1<<20/len(piece))
		ids, info := tok.Encode(nil, text, 128)
		if len(ids) > 128 || info.Truncated != (info.Tokens > len(ids)) {
			t.Errorf("%q over and over: %d ids, %+v", piece, len(ids), info)
		}
	}
}

func TestEncodeConcurrently(t *testing.T) {
	tok := smallTokenizer(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				for _, c := range goldenCases {
					ids, _ := tok.Encode(nil, c.text, 0)
					if got, want := spell(tok, ids), strings.Join(strings.Fields("[CLS] "+c.tokens+" [SEP]"), " "); got != want {
						t.Errorf("%+q: %s, want %s", c.text, got, want)
					}
					tok.Digest()
				}
			}
		})
	}
	wg.Wait()
}

func FuzzEncode(f *testing.F) {
	for _, c := range goldenCases {
		f.Add(c.text, 8)
	}
	tok := smallTokenizer(f)
	folding, err := Train(f.Context(), slices.Values([]string{"press room", "新闻"}), TrainOptions{MinFrequency: 1, FoldWidth: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string, length int) {
		if length < 1 || length > 1<<20 {
			length = 8
		}
		checkEncode(t, tok, text, length)
		checkEncode(t, folding, text, length)
	})
}

func TestEncodeReference(t *testing.T) {
	tok := miniLM(t)
	rows := referenceRows(t)
	if len(rows) != 40 {
		t.Errorf("%d reference rows, want 40", len(rows))
	}
	for _, row := range rows {
		ids, info := tok.Encode(nil, row.Text, 512)
		if !slices.Equal(ids, row.IDs) {
			t.Errorf("%.80q: ids %v, want %v", row.Text, ids, row.IDs)
		}
		if info.Tokens != row.Tokens || info.Truncated != (row.Tokens > len(row.IDs)) {
			t.Errorf("%.80q: %+v, want %d tokens", row.Text, info, row.Tokens)
		}
	}
}
