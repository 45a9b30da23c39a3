package perturb

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func apply(t *testing.T, name, text string, seed uint64) string {
	t.Helper()
	for _, p := range All() {
		if p.Name == name {
			return p.Apply(text, seed)
		}
	}
	t.Fatalf("there is no %q", name)
	return ""
}

func TestPerturbations(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"case.lower", "EU Agrees on AI Act", "eu agrees on ai act"},
		{"case.upper", "EU agrees on straße", "EU AGREES ON STRAßE"},
		{"case.title", "it's élan: the e-mail of 2nd May", "It's Élan: The E-Mail Of 2nd May"},
		{"case.title", "BBC NEWS", "Bbc News"},
		{"case.upper", "央行维持利率不变", "央行维持利率不变"},
		{"chinese.traditional", "央行维持利率不变，历史上只有这里发展体育", "央行維持利率不變，歷史上只有這裡發展體育"},
		{"chinese.simplified", "臺灣聯合報導股市長紅", "台湾联合报导股市长红"},
		{"chinese.simplified", "衆人爲週末遊行佈置啓動", "众人为周末遊行佈置启动"},
		{"chinese.simplified", "央行维持利率不变", "央行维持利率不变"},
		{"chinese.traditional", "会議のニュース", "会議のニュース"},
		{"chinese.traditional", "Central bank holds rates", "Central bank holds rates"},
		{"numbers", "no digits at all", "no digits at all"},
		{"typos.keyboard", "央行维持利率不变", "央行维持利率不变"},
		{"typos.swap", "aaa 1 2", "aaa 1 2"},
		{"typos.drop", "a b c 1", "a b c 1"},
		{"typos.drop", "", ""},
	} {
		if got := apply(t, c.name, c.text, 1); got != c.want {
			t.Errorf("%s of %q is %q, want %q", c.name, c.text, got, c.want)
		}
	}
}

// A key's neighbours are the ones around it, and each has it as a neighbour.
func TestKeyboard(t *testing.T) {
	if got := string(slices.Sorted(slices.Values(beside['g']))); got != "bfhtvy" {
		t.Errorf("around g: %q", got)
	}
	for key, keys := range beside {
		for _, other := range keys {
			if !slices.Contains(beside[other], key) {
				t.Errorf("%c is beside %c, not the other way", other, key)
			}
		}
	}
	if len(beside) != 26 {
		t.Errorf("%d keys", len(beside))
	}
}

// Tables map to what they know no variant of in the same script, so that a
// converted text is converted.
func TestHanTables(t *testing.T) {
	for name, table := range map[string]map[rune]rune{"traditional": traditional(), "simplified": simplified()} {
		if len(table) < 2000 {
			t.Errorf("%s: %d characters", name, len(table))
		}
		for from, to := range table {
			if from == to || !unicode.Is(unicode.Han, from) || !unicode.Is(unicode.Han, to) {
				t.Errorf("%s: %c to %c", name, from, to)
			}
		}
	}
}

const seeds = 3

// The same text and seed give the same; lengths and what a perturbation leaves
// alone are kept.
func TestProperties(t *testing.T) {
	words := rapid.SampledFrom([]string{"Rates", "hold", "央行维持利率", "臺灣聯合報", "12,345.6", "２０２６", "e-mail", "naïve", "I", "…", "U.S.", "👍🏽", "\x00", "２1", "0"})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(words, 0, 12).Draw(t, "words"), rapid.SampledFrom([]string{" ", ""}).Draw(t, "between"))
		seed := rapid.Uint64().Draw(t, "seed")
		for _, p := range All() {
			got := p.Apply(text, seed)
			if got != p.Apply(text, seed) {
				t.Fatalf("%s of %q is not always %q", p.Name, text, got)
			}
			if !utf8.ValidString(got) {
				t.Fatalf("%s of %q is %q", p.Name, text, got)
			}
			switch before, after := []rune(text), []rune(got); p.Name {
			case "typos.drop":
				if gone := len(before) - len(after); gone < 0 || gone > 1+len(before)/lettersPerTypo {
					t.Fatalf("%d characters of %q are gone", gone, text)
				}
			case "typos.swap":
				slices.Sort(before)
				slices.Sort(after)
				if !slices.Equal(before, after) {
					t.Fatalf("%q became %q", text, got)
				}
			case "numbers":
				checkNumbers(t, before, after)
			case "typos.keyboard", "chinese.traditional", "chinese.simplified", "case.title":
				if len(before) != len(after) {
					t.Fatalf("%s of %q is %q", p.Name, text, got)
				}
			}
		}
	})
}

// checkNumbers holds that digits stay digits of their kind, all else stays,
// and every run changes.
func checkNumbers(t *rapid.T, before, after []rune) {
	if len(before) != len(after) {
		t.Fatalf("%q became %q", string(before), string(after))
	}
	for i := 0; i < len(before); i++ {
		zero := zeroOf(before[i])
		if zero == 0 {
			if before[i] != after[i] {
				t.Fatalf("%q became %q", string(before), string(after))
			}
			continue
		}
		from, changed := i, false
		for ; i < len(before) && zeroOf(before[i]) == zero; i++ {
			changed = changed || before[i] != after[i]
			if zeroOf(after[i]) != zero {
				t.Fatalf("%q became %q", string(before), string(after))
			}
		}
		if i--; !changed || before[from] != zero && after[from] == zero {
			t.Fatalf("%q became %q", string(before), string(after))
		}
	}
}

// Typing errors are rare: about one in twenty letters, one at least, and not
// at the same places under each seed.
func TestTyposAreRare(t *testing.T) {
	text := strings.Repeat("the quick brown fox ", 20)
	letters := 16 * 20
	for _, name := range []string{"typos.keyboard", "typos.swap", "typos.drop"} {
		seen := map[string]bool{}
		for seed := range uint64(seeds) {
			got := apply(t, name, text, seed)
			seen[got] = true
			changed := len(text) - len(got)
			for i := 0; len(got) == len(text) && i < len(text); i++ {
				if got[i] != text[i] {
					changed++
				}
			}
			if changed == 0 || changed > 2*(1+letters/lettersPerTypo) {
				t.Errorf("%s: %d characters of %d letters", name, changed, letters)
			}
		}
		if len(seen) != seeds {
			t.Errorf("%s: %d texts under %d seeds", name, len(seen), seeds)
		}
	}
	if got := apply(t, "typos.swap", "ab", 1); got != "ba" {
		t.Errorf("%q", got)
	}
}

func FuzzApply(f *testing.F) {
	f.Add("Rates 2.5% 央行", uint64(1))
	f.Add("\xff\xfe", uint64(2))
	f.Add("İıſß 臺灣 9", uint64(3))
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		for _, p := range All() {
			got := p.Apply(text, seed)
			if got != p.Apply(text, seed) || utf8.ValidString(text) && !utf8.ValidString(got) {
				t.Fatalf("%s of %q: %q", p.Name, text, got)
			}
		}
	})
}
