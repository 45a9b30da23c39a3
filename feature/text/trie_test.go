package text

import (
	"strings"
	"testing"
)

func TestTrieLongestRun(t *testing.T) {
	for taken, want := range map[string]int{
		"........": 0, "x.......": 1, ".xxx..x.": 3, "xx....xx": 4, "xxxxxxxx": 8, "x......x": 2,
	} {
		trie := &trie{slots: make([]edge, len(taken))}
		for i := range trie.slots {
			trie.slots[i].key = emptyEdge
			if taken[i] == 'x' {
				trie.slots[i].key = 1
			}
		}
		if got := trie.longestRun(); got != want {
			t.Errorf("%s has a run of %d, want %d", taken, got, want)
		}
	}
}

// TestTrieRuns holds that tokens which differ little, as made-up ones do, have
// short runs all the same.
func TestTrieRuns(t *testing.T) {
	var tokens []string
	for i := range 20_000 {
		tokens = append(tokens, strings.Repeat("a", i%7)+string(rune(0x4e00+i))+strings.Repeat("b", i%11))
	}
	trie, err := newTrie("tokens", tokens)
	if err != nil {
		t.Fatal(err)
	}
	if run := trie.longestRun(); run > maxProbe {
		t.Errorf("a run of %d slots", run)
	}
	for id, token := range tokens {
		if got := trie.lookup(token); got != int32(id) {
			t.Fatalf("%q is %d, want %d", token, got, id)
		}
	}
}
