package text

import (
	"math/bits"
	"slices"

	"galley"
)

// A trie maps strings to ids. It is one flat hash table of edges: a node is
// the slot of the edge that leads to it, plus one; the root is 0.
type trie struct {
	slots      []edge
	multiplier uint32
	shift      uint8
}

type edge struct {
	key uint32 // the parent node << 8 | byte
	id  int32  // of the string that ends here, or noID
}

const (
	noID      = -1
	emptyEdge = 1<<32 - 1
	// maxTrieNodes keeps nodes within the 24 bits that an edge has for them,
	// in a table at most half full.
	maxTrieNodes = 1<<22 - 1
	// maxProbe bounds the search for an edge, whatever the strings are: no more
	// slots in a row are taken. In a table half full, strings that do not aim at
	// it stay below a hundred.
	maxProbe = 512
)

// multipliers are tried in turn until no run of slots exceeds maxProbe.
var multipliers = []uint32{0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F}

// newTrie holds tokens, each with its index as id. The empty string has no
// place in it.
func newTrie(subject string, tokens []string) (*trie, error) {
	nodes := countPrefixes(tokens)
	if nodes > maxTrieNodes {
		return nil, galley.Errorf(galley.InvalidArgument, subject, "the tokens have %d distinct prefixes, at most %d can be held", nodes, maxTrieNodes).
			WithRemedy("use a smaller vocabulary")
	}
	size := max(8, bits.Len(uint(2*nodes)))
	for _, m := range multipliers {
		t := &trie{slots: make([]edge, 1<<size), multiplier: m, shift: uint8(32 - size)}
		if t.fill(tokens) {
			return t, nil
		}
	}
	return nil, galley.Errorf(galley.InvalidArgument, subject, "the tokens collide in the lookup table").
		WithRemedy("use a vocabulary that was learnt from text")
}

// countPrefixes returns how many distinct nonempty prefixes the tokens have.
func countPrefixes(tokens []string) int {
	sorted := slices.Sorted(slices.Values(tokens))
	n, previous := 0, ""
	for _, token := range sorted {
		same := 0
		for same < len(token) && same < len(previous) && token[same] == previous[same] {
			same++
		}
		n += len(token) - same
		previous = token
	}
	return n
}

func (t *trie) fill(tokens []string) bool {
	for i := range t.slots {
		t.slots[i] = edge{emptyEdge, noID}
	}
	for id, token := range tokens {
		node := uint32(0)
		for i := range len(token) {
			if node = t.add(node, token[i]); node == 0 {
				return false
			}
		}
		if node != 0 {
			t.slots[node-1].id = int32(id)
		}
	}
	return t.longestRun() <= maxProbe
}

// longestRun returns the most slots in a row that are taken: what a search for
// an edge that is not there may pass over.
func (t *trie) longestRun() int {
	longest, run := 0, 0
	for i := range 2 * len(t.slots) { // twice: a run may go on from end to start
		if t.slots[i&(len(t.slots)-1)].key == emptyEdge {
			run = 0
			continue
		}
		run++
		if longest = max(longest, run); run == len(t.slots) {
			break
		}
	}
	return longest
}

func (t *trie) add(node uint32, b byte) uint32 {
	key := node<<8 | uint32(b)
	mask := uint32(len(t.slots) - 1)
	i := key * t.multiplier >> t.shift
	for range maxProbe {
		switch t.slots[i].key {
		case key:
			return i + 1
		case emptyEdge:
			t.slots[i].key = key
			return i + 1
		}
		i = (i + 1) & mask
	}
	return 0
}

// next returns the node that b leads to from node, or 0.
func (t *trie) next(node uint32, b byte) uint32 {
	key := node<<8 | uint32(b)
	slots := t.slots
	mask := uint32(len(slots) - 1)
	for i := key * t.multiplier >> t.shift & mask; ; i = (i + 1) & mask {
		switch slots[i].key {
		case key:
			return i + 1
		case emptyEdge:
			return 0
		}
	}
}

// walk returns the node that s leads to from the root, or 0.
func (t *trie) walk(s string) uint32 {
	node := uint32(0)
	for i := range len(s) {
		if node = t.next(node, s[i]); node == 0 {
			return 0
		}
	}
	return node
}

// lookup returns the id of s, or noID.
func (t *trie) lookup(s string) int32 {
	node := t.walk(s)
	if node == 0 {
		return noID
	}
	return t.slots[node-1].id
}

// longestPrefix returns the id of the longest string of the trie that s
// begins with when read from node on, and its length; or noID.
func longestPrefix[S string | []byte](t *trie, node uint32, s S) (id int32, size int) {
	id = noID
	for i := range len(s) {
		if node = t.next(node, s[i]); node == 0 {
			break
		}
		if here := t.slots[node-1].id; here != noID {
			id, size = here, i+1
		}
	}
	return id, size
}
