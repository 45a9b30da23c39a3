package text

import (
	"container/heap"
	"context"
	"strings"
)

// A pair is two tokens that stand side by side.
type pair struct{ left, right int32 }

func (p pair) less(q pair) bool {
	return p.left < q.left || p.left == q.left && p.right < q.right
}

// pairStats is how often a pair occurs, and in which words it has occurred;
// a word may be listed more than once, or no longer have the pair.
type pairStats struct {
	count int64
	words []int32
}

// A merger grows a vocabulary by joining pairs.
type merger struct {
	tokens []string
	ids    map[string]int32
	words  [][]int32 // as tokens
	counts []int64   // of words
	pairs  map[pair]*pairStats
	queue  pairQueue
}

func newMerger(a alphabet, words []countedWord) *merger {
	m := &merger{tokens: a.tokens, ids: make(map[string]int32, len(a.tokens)), pairs: map[pair]*pairStats{}}
	for id, token := range a.tokens {
		m.ids[token] = int32(id)
	}
	var arena []int32 // words only shrink: one allocation serves many
	for _, w := range words {
		if cap(arena)-len(arena) < len(w.word) {
			arena = make([]int32, 0, 1<<16)
		}
		start := len(arena)
		ids, ok := a.spell(arena, w.word)
		if !ok || len(ids)-start < 2 {
			continue
		}
		arena = ids
		m.words = append(m.words, arena[start:len(arena):len(arena)])
		m.counts = append(m.counts, w.count)
	}
	for i, word := range m.words {
		for j := 1; j < len(word); j++ {
			m.count(pair{word[j-1], word[j]}, int32(i), m.counts[i])
		}
	}
	for p, stats := range m.pairs {
		m.queue = append(m.queue, queuedPair{p, stats.count})
	}
	heap.Init(&m.queue)
	return m
}

// count adds n occurrences of p in a word.
func (m *merger) count(p pair, word int32, n int64) *pairStats {
	stats := m.pairs[p]
	if stats == nil {
		stats = new(pairStats)
		m.pairs[p] = stats
	}
	stats.count += n
	if n > 0 && (len(stats.words) == 0 || stats.words[len(stats.words)-1] != word) {
		stats.words = append(stats.words, word)
	}
	return stats
}

// run joins pairs until the vocabulary has the size or no pair is frequent
// enough.
func (m *merger) run(ctx context.Context, size int, minFrequency int64) ([]string, error) {
	grown := map[pair]bool{}
	for n := 0; len(m.tokens) < size && len(m.queue) > 0; n++ {
		if n%textsBetweenChecks == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		top := heap.Pop(&m.queue).(queuedPair)
		stats := m.pairs[top.pair]
		if stats == nil || stats.count < minFrequency {
			continue
		}
		if stats.count != top.count {
			if stats.count < top.count {
				heap.Push(&m.queue, queuedPair{top.pair, stats.count})
			}
			continue
		}
		joined := m.token(m.tokens[top.pair.left] + strings.TrimPrefix(m.tokens[top.pair.right], continuation))
		delete(m.pairs, top.pair)
		for _, i := range stats.words {
			m.join(i, top.pair, joined, grown)
		}
		for p := range grown {
			heap.Push(&m.queue, queuedPair{p, m.pairs[p].count})
		}
		clear(grown)
	}
	return m.tokens, nil
}

// token returns the id of a token, which is new unless other pieces were
// joined to the same.
func (m *merger) token(s string) int32 {
	id, ok := m.ids[s]
	if !ok {
		id = int32(len(m.tokens))
		m.ids[s] = id
		m.tokens = append(m.tokens, s)
	}
	return id
}

// join replaces p in word i by one token and counts the pairs around it anew.
// Those that became more frequent are put in grown.
func (m *merger) join(i int32, p pair, joined int32, grown map[pair]bool) {
	word, count := m.words[i], m.counts[i]
	n := 0
	for j := 0; j < len(word); j++ {
		if j+1 == len(word) || word[j] != p.left || word[j+1] != p.right {
			word[n] = word[j]
			n++
			continue
		}
		if n > 0 {
			m.change(pair{word[n-1], p.left}, i, -count, p, grown)
			m.change(pair{word[n-1], joined}, i, count, p, grown)
		}
		if j+2 < len(word) {
			m.change(pair{p.right, word[j+2]}, i, -count, p, grown)
			m.change(pair{joined, word[j+2]}, i, count, p, grown)
		}
		word[n] = joined
		n++
		j++
	}
	m.words[i] = word[:n]
}

// change counts a neighbour of the pair being merged, which is itself done
// with.
func (m *merger) change(p pair, word int32, n int64, merging pair, grown map[pair]bool) {
	if p == merging {
		return
	}
	m.count(p, word, n)
	if n > 0 {
		grown[p] = true
	}
}

// A queuedPair is a pair with the count that it had when it was queued.
type queuedPair struct {
	pair  pair
	count int64
}

// A pairQueue is a heap with the most frequent pair on top, of those the one
// whose tokens came first.
type pairQueue []queuedPair

func (q pairQueue) Len() int { return len(q) }
func (q pairQueue) Less(i, j int) bool {
	if q[i].count != q[j].count {
		return q[i].count > q[j].count
	}
	return q[i].pair.less(q[j].pair)
}
func (q pairQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *pairQueue) Push(x any)   { *q = append(*q, x.(queuedPair)) }
func (q *pairQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
