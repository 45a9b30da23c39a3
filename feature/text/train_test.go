package text

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"galley"

	"pgregory.net/rapid"
)

func train(t testing.TB, o TrainOptions, texts ...string) *Tokenizer {
	t.Helper()
	tok, err := Train(t.Context(), slices.Values(texts), o)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func vocabularyOf(tok *Tokenizer) string {
	var tokens []string
	for id := range tok.VocabSize() {
		tokens = append(tokens, tok.Token(int32(id)))
	}
	return strings.Join(tokens, " ")
}

// TestTrainGolden has a corpus small enough to join by hand. "l" and "##o"
// stand side by side four times, as do "##o" and "##w": the first come first.
// What is seen once (L, 低, x, the pair er) is not learnt, nor what is learnt
// from words with it.
func TestTrainGolden(t *testing.T) {
	tok := train(t, TrainOptions{}, "low low low lower Lower", "新低 新", "x")
	want := "[PAD] [UNK] [CLS] [SEP] [MASK] e l o r w 新 ##e ##o ##r ##w lo low"
	if got := vocabularyOf(tok); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if special := tok.Special(); special != (Special{padID, unknownID, classID, separatorID, maskID}) {
		t.Errorf("%+v", special)
	}
	characters := train(t, TrainOptions{Model: Character, VocabSize: 7}, "low low low lower Lower", "新低 新", "x")
	if got, want := vocabularyOf(characters), "[PAD] [UNK] [CLS] [SEP] [MASK] o w"; got != want {
		t.Errorf("%s, want the two most frequent characters, %s", got, want)
	}
}

func TestTrainDeterministic(t *testing.T) {
	var texts []string
	for i := range 3000 {
		texts = append(texts, fmt.Sprintf("story%d of the %dth newsroom 第%d条新闻 %x", i%97, i%31, i, i*i))
	}
	for _, model := range []Model{WordPiece, Character} {
		o := TrainOptions{Model: model, VocabSize: 600, DistinctWords: 1000}
		first := train(t, o, texts...)
		for range 3 {
			if again := train(t, o, texts...); first.Digest() != again.Digest() {
				t.Errorf("%s: the same texts gave %s and %s", model, first.Digest(), again.Digest())
			}
		}
		checkSaveLoad(t, first)
	}
}

func TestTrainBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		texts := rapid.SliceOf(rapid.Custom(drawText)).Draw(rt, "texts")
		o := TrainOptions{
			Model:        rapid.SampledFrom([]Model{WordPiece, Character}).Draw(rt, "model"),
			VocabSize:    rapid.IntRange(6, 60).Draw(rt, "size"),
			MinFrequency: rapid.IntRange(1, 3).Draw(rt, "frequency"),
			Lowercase:    rapid.Bool().Draw(rt, "lowercase"),
			FoldWidth:    rapid.Bool().Draw(rt, "width"),
		}
		tok, err := Train(context.Background(), slices.Values(texts), o)
		if err != nil {
			rt.Fatal(err)
		}
		if tok.VocabSize() > o.VocabSize {
			rt.Fatalf("%d tokens where %d were allowed", tok.VocabSize(), o.VocabSize)
		}
		seen := map[string]bool{}
		for id := range tok.VocabSize() {
			token := tok.Token(int32(id))
			if token == "" || seen[token] {
				rt.Fatalf("token %d, %q, is empty or not the first", id, token)
			}
			seen[token] = true
		}
		for _, text := range texts {
			checkEncode(rt, tok, text, 8)
			if ids, _ := tok.EncodePlain(nil, text, 0); o.MinFrequency == 1 && o.Model == Character && o.VocabSize > 5+distinctRunes(tok, texts) && slices.Contains(ids, unknownID) {
				rt.Fatalf("%+q: %v has [UNK] though every character was learnt", text, ids)
			}
		}
	})
}

// distinctRunes bounds the number of characters of texts from above.
func distinctRunes(tok *Tokenizer, texts []string) int {
	seen := map[rune]bool{}
	for _, text := range texts {
		runes, _ := tok.splitter.normalizer.apply([]rune(text), nil)
		for _, r := range runes {
			seen[r] = true
		}
	}
	return len(seen)
}

func TestTrainRefuses(t *testing.T) {
	for _, o := range []TrainOptions{{Model: "bpe"}, {VocabSize: 5}, {VocabSize: -1}, {MinFrequency: -1}, {MaxLength: -1}, {DistinctWords: 10}} {
		if _, err := Train(t.Context(), slices.Values([]string{"a"}), o); galley.CodeOf(err) != galley.InvalidArgument && galley.CodeOf(err) != galley.OutOfRange {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestTrainCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var endless iter.Seq[string] = func(yield func(string) bool) {
		for n := 0; yield("news"); n++ {
			if n == 1000 {
				cancel()
			}
		}
	}
	if _, err := Train(ctx, endless, TrainOptions{}); galley.CodeOf(err) != galley.Canceled {
		t.Errorf("%v", err)
	}
}

func TestWordTableIsBounded(t *testing.T) {
	table := newWordTable(1000)
	for i := range 50_000 {
		for range 3 {
			table.add([]byte("press"))
		}
		table.add(fmt.Appendf(nil, "word%d", i))
		if len(table.counts) > 1000 {
			t.Fatalf("%d words are held", len(table.counts))
		}
	}
	words := table.sorted()
	if i, ok := slices.BinarySearchFunc(words, "press", func(w countedWord, s string) int { return strings.Compare(w.word, s) }); !ok || words[i].count != 150_000 {
		t.Errorf("the frequent word was not counted to the end")
	}
}

// TestTrainSharedData learns the vocabularies that the shipped jobs learn.
func TestTrainSharedData(t *testing.T) {
	for _, set := range []string{"ag_news", "thucnews"} {
		texts := sharedTexts(t, set, "train")
		tok := train(t, TrainOptions{Lowercase: true}, texts...)
		tokens, unknown := 0, 0
		for _, text := range texts {
			ids, _ := tok.Encode(nil, text, 0)
			tokens += len(ids) - 2
			unknown += bytes.Count([]byte(spell(tok, ids)), []byte("[UNK]"))
		}
		t.Logf("%s: %d tokens, %.1f ids per text, %.3f %% unknown", set, tok.VocabSize(), float64(tokens)/float64(len(texts)), 100*float64(unknown)/float64(tokens))
		if unknown*200 > tokens {
			t.Errorf("%s: %d of %d tokens are unknown", set, unknown, tokens)
		}
	}
}
