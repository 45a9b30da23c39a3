package baseline

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/dataset"
	"galley/evals"
)

// rows is a dataset in memory.
type rows []dataset.Row

func (r rows) Len() int                      { return len(r) }
func (r rows) At(i int) (dataset.Row, error) { return r[i], nil }

func gramsOf(text string) []string {
	var out []string
	ngrams(text, func(gram []byte) { out = append(out, string(gram)) })
	return out
}

func TestNGrams(t *testing.T) {
	tests := map[string]string{
		"":                                     "",
		"Stock market up 3%":                   "stock|market|stock market|up|market up|3|up 3",
		"股市上涨":                                 "股|市|股市|上|市上|涨|上涨",
		"苹果发布iPhone 17，售价":                     "苹|果|苹果|发|果发|布|发布|iphone|17|iphone 17|售|价|售价",
		"Café déjà vu":                         "café|déjà|café déjà|vu|déjà vu",
		"don't":                                "don|t|don t",
		"a " + strings.Repeat("x", 100) + " b": "a|b",
		"\xff\xfe bad":                         "bad",
		"カナ漢字 한국어":                             "カ|ナ|カナ|漢|ナ漢|字|漢字|한국어",
	}
	for text, want := range tests {
		if got := strings.Join(gramsOf(text), "|"); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if n := len(gramsOf(strings.Repeat("字", 1_000_000))); n != 2*maxTokens-1 {
		t.Errorf("%d n-grams of a long text", n)
	}
}

func FuzzNGrams(f *testing.F) {
	for _, text := range []string{"", "a b", "股市 up", "\xff字\x00x", "é́"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, gram := range gramsOf(text) {
			if gram == "" || len(gram) > 2*maxWord+1 || strings.HasPrefix(gram, " ") || strings.HasSuffix(gram, " ") {
				t.Errorf("%q gives %q", text, gram)
			}
		}
	})
}

func TestVectorsHaveLengthOne(t *testing.T) {
	data := rows{{Text: "the cat sat"}, {Text: "the dog sat"}, {Text: "the the the"}, {Text: "天气 today"}}
	v, err := learnVocabulary(t.Context(), data, 1, 100, true)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.SampledFrom([]string{"the", "cat", "dog", "sat", "unknown", "天", "气"})).Draw(t, "words")
		terms := v.vector(nil, strings.Join(words, " "))
		square := 0.0
		for i, x := range terms {
			square += float64(x.weight) * float64(x.weight)
			if i > 0 && terms[i-1].feature >= x.feature {
				t.Fatalf("features %v are not in order", terms)
			}
		}
		if len(terms) > 0 && math.Abs(square-1) > 1e-5 {
			t.Fatalf("length² %v", square)
		}
	})
	if terms := v.vector(nil, "nothing known here"); len(terms) != 0 {
		t.Errorf("%v", terms)
	}
}

func TestVocabularyBounds(t *testing.T) {
	data := rows{{Text: "a b c"}, {Text: "a b"}, {Text: "a"}}
	for _, tt := range []struct{ minRows, most, want int }{{1, 100, 5}, {2, 100, 3}, {1, 2, 2}, {4, 100, 0}} {
		v, err := learnVocabulary(t.Context(), data, tt.minRows, tt.most, false)
		if err != nil || v.Len() != tt.want {
			t.Errorf("%+v: %d, %v", tt, v.Len(), err)
		}
	}
	v, _ := learnVocabulary(t.Context(), data, 1, 1, false)
	if _, ok := v.index["a"]; !ok || math.Abs(v.idf[0]-1) > 1e-12 { // in each row: ln(4/4)+1
		t.Errorf("%v %v", v.index, v.idf)
	}
}

// The gradient is that of the function, by central differences.
func TestGradient(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		labels, features := 2+random.IntN(3), 1+random.IntN(5)
		m := &matrix{}
		for range 1 + random.IntN(6) {
			for j := range features {
				if random.IntN(2) == 0 {
					m.terms = append(m.terms, term{int32(j), random.Float32()})
				}
			}
			m.ends = append(m.ends, len(m.terms))
			m.labels = append(m.labels, int32(random.IntN(labels)))
		}
		r := newRegression(features, labels)
		x := r.weights
		for i := range x {
			x[i] = random.NormFloat64()
		}
		gradient, scratch := make([]float64, len(x)), make([]float64, len(x))
		r.objective(x, gradient, m, .1)
		for i := range x {
			const h = 1e-5
			at := x[i]
			x[i] = at + h
			up := r.objective(x, scratch, m, .1)
			x[i] = at - h
			down := r.objective(x, scratch, m, .1)
			x[i] = at
			if want := (up - down) / (2 * h); math.Abs(gradient[i]-want) > 1e-7 {
				t.Fatalf("gradient %d is %v, want %v", i, gradient[i], want)
			}
		}
	})
}

// A badly scaled quadratic has its minimum where it must be.
func TestLBFGS(t *testing.T) {
	x := []float64{5, -3, 8, 1}
	scale, target := []float64{1, 100, .1, 10}, []float64{1, 2, 3, 4}
	err := lbfgs(x, func(x, g []float64) (float64, error) {
		v := 0.0
		for i := range x {
			d := x[i] - target[i]
			v += scale[i] * d * d / 2
			g[i] = scale[i] * d
		}
		return v, nil
	})
	for i := range x {
		if math.Abs(x[i]-target[i]) > 2e-3 || err != nil {
			t.Errorf("x %v, %v", x, err)
		}
	}
	calls := 0
	err = lbfgs([]float64{0}, func(x, g []float64) (float64, error) { // without a minimum
		calls++
		g[0] = -1
		return -x[0], nil
	})
	if err != nil || calls > iterations*50 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// corpus has texts whose label shows in most of their words.
func corpus(n int, seed uint64) rows {
	random := rand.New(rand.NewPCG(seed, 1))
	words := map[string][]string{
		"sports":  {"match", "goal", "league", "coach", "比赛", "球队", "冠军"},
		"finance": {"stock", "bank", "market", "profit", "股市", "银行", "利润"},
		"culture": {"film", "museum", "novel", "opera", "电影", "展览", "小说"},
	}
	labels := []string{"culture", "finance", "sports"}
	var out rows
	for range n {
		label := labels[random.IntN(3)]
		var text []string
		for range 4 {
			from := label
			if random.IntN(4) == 0 {
				from = labels[random.IntN(3)]
			}
			text = append(text, words[from][random.IntN(7)])
		}
		out = append(out, dataset.Row{Text: strings.Join(text, " "), Label: label, Language: "en"})
	}
	return out
}

func TestTrain(t *testing.T) {
	labels := []string{"sports", "culture", "finance"} // not in the order of bytes
	train, valid, test := corpus(600, 1), corpus(100, 2), corpus(300, 3)
	m, err := Train(t.Context(), train, valid, labels, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := evals.Run(t.Context(), m, evals.Sequence(test), labels, evals.Options{Latency: 10, Baselines: []evals.Contender{m.Contender()}})
	if err != nil {
		t.Fatal(err)
	}
	if a := r.Metrics[evals.Accuracy].Value; a < .9 {
		t.Errorf("accuracy %v", a)
	}
	if r.Gate.Passed || r.Baselines[0].Pairing != (evals.Pairing{N: 300}) {
		t.Errorf("against itself: %+v, %+v", r.Gate, r.Baselines[0].Pairing)
	}
	if p := r.Baselines[0].Parameters; !slices.Contains([]float64{1, 3, 10, 30}, p["c"]) || p["rows"] != 600 || p["features"] < 21 || p["valid_accuracy"] < .8 {
		t.Errorf("parameters %v", p)
	}
	again, err := Train(t.Context(), train, valid, labels, Options{})
	if err != nil || !slices.Equal(again.regression.weights, m.regression.weights) {
		t.Errorf("the same rows give another model: %v", err)
	}
	// A text without a known n-gram gets the intercepts.
	p, err := m.Predict(t.Context(), []string{"", "zzz"})
	if err != nil || fmt.Sprint(p[0]) != fmt.Sprint(p[1]) || p[0].Scores[0] < .2 {
		t.Errorf("%v, %v", p, err)
	}
}

func TestTrainBoundsAndFallbacks(t *testing.T) {
	labels := []string{"culture", "finance", "sports"}
	m, err := Train(t.Context(), corpus(500, 1), nil, labels, Options{MaxRows: 100, MaxFeatures: 10, C: []float64{2}})
	if err != nil {
		t.Fatal(err)
	}
	if p := m.parameters; p["rows"] < 95 || p["rows"] > 105 || p["features"] != 10 || p["c"] != 2 {
		t.Errorf("parameters %v", p)
	}
}

func TestTrainRefuses(t *testing.T) {
	labels := []string{"culture", "finance", "sports"}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := map[string]struct {
		ctx    context.Context
		train  rows
		labels []string
		o      Options
		code   galley.Code
	}{
		"no rows":        {t.Context(), nil, labels, Options{}, galley.FailedPrecondition},
		"one label":      {t.Context(), corpus(9, 1), labels[:1], Options{}, galley.InvalidArgument},
		"label twice":    {t.Context(), corpus(9, 1), []string{"a", "a", "b"}, Options{}, galley.InvalidArgument},
		"unknown label":  {t.Context(), corpus(99, 1), labels[:2], Options{}, galley.InvalidArgument},
		"C not sorted":   {t.Context(), corpus(9, 1), labels, Options{C: []float64{2, 1}}, galley.InvalidArgument},
		"C not a number": {t.Context(), corpus(9, 1), labels, Options{C: []float64{math.NaN()}}, galley.InvalidArgument},
		"negative":       {t.Context(), corpus(9, 1), labels, Options{MaxRows: -1}, galley.InvalidArgument},
		"cancelled":      {canceled, corpus(9, 1), labels, Options{}, galley.Canceled},
	}
	for name, tt := range tests {
		if _, err := Train(tt.ctx, tt.train, corpus(9, 2), tt.labels, tt.o); galley.CodeOf(err) != tt.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}
