package architecture

import (
	"context"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"galley/onnx"
	"galley/onnx/session"
)

// tapBuckets makes outputs of m: the bucket of each n-gram, whether it counts,
// and its weight.
func tapBuckets(t *testing.T, m *onnx.Model) (bucket, counts, weight string) {
	t.Helper()
	producers := m.Graph.Producers()
	for _, n := range m.Graph.Nodes {
		switch {
		case n.Op == "Gather" && n.Inputs[0] == NGramTable:
			bucket = n.Inputs[1]
		case n.Op == "Mul" && n.Inputs[0] == n.Inputs[1]: // the squares under the norm
			weight = n.Inputs[0]
			counts = producers[weight].Inputs[1]
		}
	}
	b := onnx.NewBuilder(m.Graph)
	shape := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("ngrams")}
	b.Output(bucket, onnx.Int64, shape)
	b.Output(counts, onnx.Float, shape)
	b.Output(weight, onnx.Float, shape)
	return bucket, counts, weight
}

// TestBucketsInGraph holds that the graph finds the n-grams that the host
// finds, in the same buckets, and gives them their weights.
func TestBucketsInGraph(t *testing.T) {
	for _, n := range []NGrams{{Orders: 1, Buckets: 16, Width: 2}, {Orders: 3, Buckets: 1000, Width: 2}, {Orders: 5, Buckets: 1 << 24, Width: 1}} {
		a := small()
		a.Layers, a.NGrams, a.Vocabulary = 0, n, 1<<20
		w := weighing(n, 10) // texts of few words, so that some n-grams come often
		w.counts = NewWeighing(n, a.Vocabulary, []int32{pad, class, separator}).counts
		m, err := a.Classifier(2, w, 1)
		if err != nil {
			t.Fatal(err)
		}
		bucketName, countsName, weightName := tapBuckets(t, m)
		s, inverse := open(t, m), w.weights()
		weighed := 0
		rapid.Check(t, func(rt *rapid.T) {
			id := rapid.OneOf(rapid.Int32Range(0, 9), rapid.Int32Range(0, int32(a.Vocabulary-1)))
			ids := rapid.SliceOfN(id, 1, a.MaxLength).Draw(rt, "ids")
			length := rapid.IntRange(len(ids), a.MaxLength+3).Draw(rt, "length")
			out, err := s.Run(context.Background(), batch(t, [][]int32{ids}, length), bucketName, countsName, weightName)
			if err != nil {
				rt.Fatal(err)
			}
			buckets, weights := session.Data[int64](out[bucketName]), session.Data[float32](out[weightName])
			var got []int64
			for i, counts := range session.Data[float32](out[countsName]) {
				want := float32(0)
				if counts == 1 {
					got = append(got, buckets[i])
					want = inverse[buckets[i]]
				}
				if weights[i] != want {
					rt.Fatalf("an n-gram in bucket %d weighs %v, want %v", buckets[i], weights[i], want)
				}
				if want > 0 {
					weighed++
				}
			}
			want := n.bucketsOf(nil, ids, w.counts)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				rt.Fatalf("buckets %v in the graph, %v on the host", got, want)
			}
		})
		if weighed == 0 {
			t.Error("no n-gram had a weight")
		}
	}
}

func TestBucketsOfWordsAlone(t *testing.T) {
	n := NGrams{Orders: 3, Buckets: 1 << 20}
	counts := []bool{false, false, false, true, true, true, true}
	// 3 4 | 5: three words, one pair; a special token between breaks pairs.
	if got := n.bucketsOf(nil, []int32{1, 3, 4, 2, 5, 0}, counts); len(got) != 4 {
		t.Errorf("%d n-grams, want 4", len(got))
	}
	one, two := n.bucketsOf(nil, []int32{3, 4}, counts), n.bucketsOf(nil, []int32{4, 3}, counts)
	if len(one) != 3 || slices.Contains(two, one[1]) {
		t.Errorf("%v and %v: the order of words is lost", one, two)
	}
}

func TestWeighing(t *testing.T) {
	n := NGrams{Orders: 1, Buckets: 1 << 16, Width: 1}
	w := NewWeighing(n, 10, []int32{0, 1, 2})
	w.Add([]int32{1, 3, 3, 4, 2})
	w.Add([]int32{1, 3, 5, 2})
	w.Add([]int32{1, 5, 3, 2})
	bucket := func(id int32) int64 { return n.bucketsOf(nil, []int32{id}, w.counts)[0] }
	weights := w.weights()
	idf := func(df float64) float32 { return float32(math.Log((1+3)/(1+df)) + 1) }
	for id, want := range map[int32]float32{3: idf(3), 4: 0, 5: idf(2), 6: 0} {
		if got := weights[bucket(id)]; got != want {
			t.Errorf("id %d weighs %v, want %v", id, got, want)
		}
	}
	if words := w.words(); !slices.Equal(words, []int64{0, 0, 0, 1, 1, 1, 1, 1, 1, 1}) {
		t.Errorf("words %v", words)
	}
}

func TestSetBlend(t *testing.T) {
	a := small()
	m, err := a.Classifier(3, weighing(a.NGrams, a.Vocabulary), 1)
	if err != nil {
		t.Fatal(err)
	}
	if !HasBranches(m) {
		t.Fatal("an encoder with n-grams has no branches")
	}
	for _, branch := range []string{EncoderLogits, NGramLogits} {
		onnx.NewBuilder(m.Graph).Output(branch, onnx.Float, onnx.Shape{onnx.Symbol("batch"), {Size: 3}})
	}
	SetBlend(m, 0.25, 3)
	s := open(t, m)
	inputs := batch(t, [][]int32{{class, 7, 8, 9, separator}}, 5)
	sum, encoder, ngrams := run(t, s, inputs, Logits), run(t, s, inputs, EncoderLogits), run(t, s, inputs, NGramLogits)
	for i := range sum {
		if want := 0.25*encoder[i] + 3*ngrams[i]; math.Abs(float64(sum[i]-want)) > 1e-6 {
			t.Errorf("class %d: %v, want %v", i, sum[i], want)
		}
	}
	a.NGrams = NGrams{}
	if m, err = a.Classifier(3, nil, 1); err != nil || HasBranches(m) {
		t.Errorf("an encoder alone has branches, or %v", err)
	}
}
