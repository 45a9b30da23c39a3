//go:build peers

package text

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// peer is Hugging Face tokenizers in a child process, with one thread.
type peer struct {
	tb  testing.TB
	in  *json.Encoder
	out *json.Decoder
}

func newPeer(tb testing.TB) *peer {
	tb.Helper()
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		tb.Skip("GALLEY_PEERS_PYTHON does not name a Python with tokenizers")
	}
	cmd := exec.Command(python, filepath.Join("testdata", "peer_tokenizers.py"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &peer{tb, json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))}
}

func (p *peer) ask(request map[string]any, answer any) {
	p.tb.Helper()
	if err := p.in.Encode(request); err != nil {
		p.tb.Fatal(err)
	}
	if err := p.out.Decode(answer); err != nil {
		p.tb.Fatal(err)
	}
}

func (p *peer) load(path string) {
	p.tb.Helper()
	p.ask(map[string]any{"load": path}, &struct{}{})
}

// save writes t and has the peer load it.
func (p *peer) save(t *Tokenizer) {
	p.tb.Helper()
	path := filepath.Join(p.tb.TempDir(), "tokenizer.json")
	f, err := os.Create(path)
	if err != nil {
		p.tb.Fatal(err)
	}
	if _, err := t.WriteTo(f); err != nil {
		p.tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		p.tb.Fatal(err)
	}
	p.load(path)
}

// agree checks that the peer gives the ids of t for each text, and its text
// for the ids.
func (p *peer) agree(t *Tokenizer, texts []string, markup bool) {
	p.tb.Helper()
	encode := t.EncodePlain
	if markup {
		encode = t.Encode
	}
	differ := 0
	for batch := range slices.Chunk(texts, 1000) {
		var theirs struct {
			IDs   [][]int32
			Texts []string
		}
		p.ask(map[string]any{"encode": batch, "markup": markup}, &theirs)
		p.ask(map[string]any{"decode": theirs.IDs}, &theirs)
		for i, text := range batch {
			ours, _ := encode(nil, text, 0)
			if !slices.Equal(ours, theirs.IDs[i]) {
				if differ++; differ < 10 {
					p.tb.Errorf("%+q (markup %v): ids %v, Hugging Face's %v", text, markup, ours, theirs.IDs[i])
				}
			} else if got := t.Decode(ours); got != theirs.Texts[i] {
				if differ++; differ < 10 {
					p.tb.Errorf("%v: decoded %+q, Hugging Face's %+q", ours, got, theirs.Texts[i])
				}
			}
		}
	}
	if differ > 0 {
		p.tb.Errorf("%d of %d texts differ", differ, len(texts))
	}
}

// everyCodePoint has each code point between letters, of the planes of Chinese
// and of private use those at which blocks begin and end.
func everyCodePoint() []string {
	var texts []string
	for r := rune(0); r < 0x110000; r++ {
		surrogate := r >= 0xD800 && r < 0xE000
		edge := (r+1)&0xF < 2 || r >= 0x2F800 && r < 0x2FB00
		if surrogate || r >= 0x20000 && r < 0xE0000 && !edge || r >= 0xE0200 && (r+2)&0xFF > 3 {
			continue
		}
		texts = append(texts, "a"+string(r)+"B")
	}
	return texts
}

// randomTexts are of code points that stand close together in Unicode, of
// marks, and of literal special tokens.
func randomTexts(n int) []string {
	r := rand.New(rand.NewPCG(7, 7))
	bases := []rune{0, 0x80, 0x250, 0x300, 0x370, 0x5D0, 0x900, 0x980, 0x1100, 0x1E00, 0x2000, 0x2460, 0x3000, 0x3040, 0x4E00, 0xAC00, 0xF900, 0xFF00, 0x11100, 0x11930, 0x1D100, 0x1F600, 0x20000, 0x2F800}
	texts := make([]string, n)
	for i := range texts {
		var b strings.Builder
		for range r.IntN(30) {
			switch r.IntN(12) {
			case 0, 1, 2:
				b.WriteRune('a' + rune(r.IntN(26)))
			case 3, 4:
				b.WriteRune(' ')
			case 5:
				b.WriteRune(combiningRanges[r.IntN(len(combiningRanges))].lo)
			case 6:
				b.WriteString(specialTokens[r.IntN(5)])
			case 7:
				c := rune(r.IntN(0x110000))
				if c >= 0xD800 && c < 0xE000 {
					c = '#'
				}
				b.WriteRune(c)
			default:
				b.WriteRune(bases[r.IntN(len(bases))] + rune(r.IntN(0x100)))
			}
		}
		texts[i] = b.String()
	}
	return texts
}

func TestPeerMiniLM(t *testing.T) {
	p, tok := newPeer(t), miniLM(t)
	p.load(sharedFile(t, "models", "all-minilm-l6-v2", "tokenizer.json"))
	p.agree(tok, allSharedTexts(t), true)
	p.agree(tok, allSharedTexts(t), false)
	p.agree(tok, randomTexts(20000), true)
	p.agree(tok, randomTexts(20000), false)
	p.agree(tok, everyCodePoint(), true)
}

func TestPeerGolden(t *testing.T) {
	p := newPeer(t)
	tok := smallTokenizer(t)
	p.save(tok)
	var texts []string
	for _, c := range goldenCases {
		texts = append(texts, strings.ToValidUTF8(c.text, "\uFFFD"))
	}
	p.agree(tok, texts, true)
	p.agree(tok, texts, false)
}

func TestPeerReadsMiniLMWritten(t *testing.T) {
	p, tok := newPeer(t), miniLM(t)
	p.save(tok)
	p.agree(tok, randomTexts(5000), true)
	p.agree(tok, sharedTexts(t, "ag_news", "test"), false)
}

func TestPeerReadsLearnt(t *testing.T) {
	corpus := allSharedTexts(t)
	for _, o := range []TrainOptions{
		{Lowercase: true},
		{VocabSize: 6000, MaxLength: 32},
		{FoldWidth: true, VocabSize: 8000},
		{FoldWidth: true, Lowercase: true, VocabSize: 8000},
		{Model: Character, Lowercase: true},
		{Model: Character, FoldWidth: true, VocabSize: 3000},
	} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			tok, err := Train(t.Context(), slices.Values(corpus), o)
			if err != nil {
				t.Fatal(err)
			}
			p := newPeer(t)
			p.save(tok)
			p.agree(tok, corpus, true)
			p.agree(tok, randomTexts(20000), true)
			p.agree(tok, randomTexts(20000), false)
		})
	}
}

// TestPeerNormalizers compares what each normalizer does, seen through a
// vocabulary of single characters.
func TestPeerNormalizers(t *testing.T) {
	texts := append(randomTexts(20000), everyCodePoint()...)
	tokens := slices.Clone(specialTokens)
	for r := rune(1); r < 0x3FFFF; r++ {
		if r < 0xD800 || r > 0xDFFF {
			tokens = append(tokens, string(r))
		}
	}
	yes, no := true, false
	for _, n := range []normalizer{
		nil,
		{formNames["NFC"]}, {formNames["NFD"]}, {formNames["NFKC"]}, {formNames["NFKD"]},
		{bertNormalizer{HandleChineseChars: true, Lowercase: true, StripAccents: &no}},
		{bertNormalizer{CleanText: true, StripAccents: &yes}},
		{bertNormalizer{Lowercase: true}},
		{formNames["NFD"], bertNormalizer{CleanText: true}, formNames["NFKC"]},
	} {
		tok, err := newTokenizer(parts{
			tokens: tokens, unknown: unknownID, prefix: continuation, maxRunes: 100,
			normalizer: n, characters: true, template: template{none: true}, decoder: decoder{kind: decoderFuse},
		})
		if err != nil {
			t.Fatal(err)
		}
		name, _ := json.Marshal(n.section())
		t.Run(string(name), func(t *testing.T) {
			p := newPeer(t)
			p.save(tok)
			p.agree(tok, texts, true)
		})
	}
}

// TestBenchTokenizers compares the time of one pass over the shared texts on one
// thread, in turns.
func TestBenchTokenizers(t *testing.T) {
	p, tok := newPeer(t), miniLM(t)
	p.load(sharedFile(t, "models", "all-minilm-l6-v2", "tokenizer.json"))
	for _, set := range []string{"ag_news", "thucnews"} {
		texts := append(sharedTexts(t, set, "train"), sharedTexts(t, set, "test")...)
		p.ask(map[string]any{"texts": texts}, &struct{}{})
		var ratios, ours, theirs []float64
		var dst []int32
		for range 1 + 9 {
			start, tokens := time.Now(), 0
			for _, text := range texts {
				dst, _ = tok.Encode(dst[:0], text, 0)
				tokens += len(dst)
			}
			seconds := time.Since(start).Seconds()
			var answer struct {
				Seconds float64
				Tokens  int
			}
			p.ask(map[string]any{"time": true}, &answer)
			if answer.Tokens != tokens {
				t.Fatalf("%s: %d tokens, Hugging Face's %d", set, tokens, answer.Tokens)
			}
			ours, theirs = append(ours, seconds), append(theirs, answer.Seconds)
			ratios = append(ratios, answer.Seconds/seconds)
		}
		ratios, ours, theirs = ratios[1:], ours[1:], theirs[1:] // the first turn warms up
		slices.Sort(ratios)
		slices.Sort(ours)
		slices.Sort(theirs)
		mid := len(ratios) / 2
		t.Logf("%s: %.1fx the speed of Hugging Face tokenizers (%.1fx to %.1fx in %d turns); median %.1f ms against %.1f ms for %d texts",
			set, ratios[mid], ratios[0], ratios[len(ratios)-1], len(ratios), ours[mid]*1e3, theirs[mid]*1e3, len(texts))
		if ratios[mid] < 1 {
			t.Errorf("%s: slower than Hugging Face tokenizers", set)
		}
	}
}

// allSharedTexts returns the texts of every shared CSV.
func allSharedTexts(tb testing.TB) []string {
	var texts []string
	for _, set := range []string{"ag_news", "thucnews"} {
		for _, split := range []string{"train", "test"} {
			texts = append(texts, sharedTexts(tb, set, split)...)
		}
	}
	return texts
}
