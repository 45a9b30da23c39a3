package text

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// TestClassesArePinned fails when a release of Go or golang.org/x/text changes
// what a code point becomes: saved models would see other ids.
func TestClassesArePinned(t *testing.T) {
	h := sha256.New()
	if raceEnabled {
		t.Skip("a million code points, one goroutine")
	}
	strips := bertNormalizer{CleanText: true, HandleChineseChars: true, Lowercase: true}
	for r := rune(0); r < 0x110000; r++ {
		bert := strips.apply(nil, []rune{r})
		nfkc := formNames["NFKC"].apply(nil, []rune{r})
		nfd := form{}.apply(nil, []rune{r})
		if slices.Equal(bert, []rune{r}) && slices.Equal(nfkc, bert) && slices.Equal(nfd, bert) && !isPunctuation(r) && combiningClass(r) == 0 {
			continue
		}
		fmt.Fprintln(h, r, bert, nfkc, nfd, isPunctuation(r), isWhitespace(r), combiningClass(r), lower(r))
	}
	const want = "631ad0d4c299f1321212ccf145d1dad6a441e775c0449884b7ba06f8912959c6"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("the digest of all classes is %s, not %s", got, want)
	}
}

func TestRangesAreSorted(t *testing.T) {
	for _, ranges := range [][]runeRange{chineseRanges, controlRanges, punctuationRanges, nonspacingMarkRanges, combiningRanges, canonicalRanges, compatibleRanges} {
		for i, x := range ranges {
			if x.lo > x.hi || i > 0 && x.lo <= ranges[i-1].hi {
				t.Errorf("range %x to %x is out of order", x.lo, x.hi)
			}
		}
	}
}

// TestForms holds the normal forms against golang.org/x/text's, on text of
// code points that both editions know.
func TestForms(t *testing.T) {
	for name, theirs := range map[string]norm.Form{"NFC": norm.NFC, "NFD": norm.NFD, "NFKC": norm.NFKC, "NFKD": norm.NFKD} {
		for _, text := range []string{
			"", "a", "é", "e\u0301", "e\u0315\u0301\u05ae", "\u1100\u1161\u11a8", "각\u11a8", "가\u11a8", "\u1100\u1100\u1161",
			"ﾊﾟ", "ガ", "㍿…①½ﬁ", "Å\u212b", "\u0958", "\u09c7\u09be", "\u0cc6\u0cc2\u0cd5", "\u1e9b\u0323", "ΐ", "\u0344", "\U0001d15e", "a\u0345\u0301",
			"\u2adc", "\u0f73\u0f75", "\uf900\U0002f800", "a\u0300\u0327\u0300",
		} {
			if got, want := string(formNames[name].apply(nil, []rune(text))), theirs.String(text); got != want {
				t.Errorf("%s of %+q is %+q, want %+q", name, text, got, want)
			}
		}
	}
}
