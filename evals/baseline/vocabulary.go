package baseline

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"galley/dataset"
)

// maxGrams is how many different n-grams are counted. Beyond it, those seen
// once are forgotten, which changes counts of rare ones only.
const maxGrams = 2_000_000

// A Vocabulary weighs n-grams as scikit-learn's TfidfVectorizer does: term
// frequency (with Sublinear 1+ln of it) times ln((1+rows)/(1+rows with the
// n-gram)) + 1, and each text's vector divided by its length.
type Vocabulary struct {
	Sublinear bool
	index     map[string]int32
	idf       []float64
}

// learnVocabulary counts the rows that each n-gram occurs in and keeps those
// in at least minRows, the most frequent first if they are more than most.
func learnVocabulary(ctx context.Context, rows dataset.Rows, minRows, most int, sublinear bool) (*Vocabulary, error) {
	found := make(map[string]*frequency)
	for i := range rows.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		row, err := rows.At(i)
		if err != nil {
			return nil, err
		}
		ngrams(row.Text, func(gram []byte) {
			f, ok := found[string(gram)]
			if !ok {
				f = &frequency{last: -1}
				found[string(gram)] = f
			}
			if f.last != i {
				f.rows, f.last = f.rows+1, i
			}
		})
		if len(found) > maxGrams {
			maps.DeleteFunc(found, func(_ string, f *frequency) bool { return f.rows == 1 })
		}
	}
	var grams []string
	for gram, f := range found {
		if f.rows >= minRows {
			grams = append(grams, gram)
		}
	}
	slices.SortFunc(grams, func(a, b string) int {
		return cmp.Or(cmp.Compare(found[b].rows, found[a].rows), cmp.Compare(a, b))
	})
	grams = grams[:min(len(grams), most)]
	v := &Vocabulary{Sublinear: sublinear, index: make(map[string]int32, len(grams)), idf: make([]float64, len(grams))}
	for i, gram := range grams {
		v.index[gram] = int32(i)
		v.idf[i] = math.Log(float64(1+rows.Len())/float64(1+found[gram].rows)) + 1
	}
	return v, nil
}

// A frequency is in how many rows an n-gram occurs, and the last of them.
type frequency struct{ rows, last int }

// Len is the number of n-grams.
func (v *Vocabulary) Len() int { return len(v.idf) }

// A term is an entry of a sparse vector.
type term struct {
	feature int32
	weight  float32
}

// vector appends the terms of a text, in the order of their features.
func (v *Vocabulary) vector(dst []term, text string) []term {
	counts := make(map[int32]int, 64)
	ngrams(text, func(gram []byte) {
		if i, ok := v.index[string(gram)]; ok {
			counts[i]++
		}
	})
	start := len(dst)
	for i := range counts {
		dst = append(dst, term{feature: i})
	}
	terms := dst[start:]
	slices.SortFunc(terms, func(a, b term) int { return cmp.Compare(a.feature, b.feature) })
	square := 0.0
	weights := make([]float64, len(terms))
	for i, t := range terms {
		tf := float64(counts[t.feature])
		if v.Sublinear {
			tf = 1 + math.Log(tf)
		}
		weights[i] = tf * v.idf[t.feature]
		square += weights[i] * weights[i]
	}
	for i := range terms {
		terms[i].weight = float32(weights[i] / math.Sqrt(square))
	}
	return dst
}

// A matrix is one sparse vector and one label per row.
type matrix struct {
	terms  []term
	ends   []int // of each row's terms
	labels []int32
}

func (m *matrix) rows() int { return len(m.ends) }

func (m *matrix) row(i int) []term {
	start := 0
	if i > 0 {
		start = m.ends[i-1]
	}
	return m.terms[start:m.ends[i]]
}

// matrix weighs all rows, whose labels must be in index.
func (v *Vocabulary) matrix(ctx context.Context, rows dataset.Rows, index map[string]int) (*matrix, error) {
	m := &matrix{ends: make([]int, 0, rows.Len()), labels: make([]int32, 0, rows.Len())}
	for i := range rows.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		row, err := rows.At(i)
		if err != nil {
			return nil, err
		}
		label, ok := index[row.Label]
		if !ok {
			return nil, unknownLabel(i, row.Label)
		}
		m.terms = v.vector(m.terms, row.Text)
		m.ends = append(m.ends, len(m.terms))
		m.labels = append(m.labels, int32(label))
	}
	return m, nil
}
