package architecture

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/session"
)

const pad, class, separator, firstWord = 0, 1, 2, 3

func small() TextEncoder {
	return TextEncoder{
		Layers: 2, Hidden: 16, Heads: 2, FeedForward: 24, MaxLength: 20, Vocabulary: 40, Dropout: 0.1,
		NGrams: NGrams{Orders: 3, Buckets: 64, Width: 8},
	}
}

// weighing counts some texts of words.
func weighing(n NGrams, vocabulary int) *Weighing {
	w := NewWeighing(n, vocabulary, []int32{pad, class, separator, -1})
	r := rand.New(rand.NewPCG(3, 3))
	for range 30 {
		w.Add(randomText(r, 12, vocabulary))
	}
	return w
}

func randomText(r *rand.Rand, words, vocabulary int) []int32 {
	ids := []int32{class}
	for range words {
		ids = append(ids, int32(firstWord+r.IntN(vocabulary-firstWord)))
	}
	return append(ids, separator)
}

func open(t testing.TB, m *onnx.Model) session.Session {
	t.Helper()
	data, err := onnx.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := orttest.Opener(t).Open(t.Context(), data, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// batch pads texts to length.
func batch(t testing.TB, texts [][]int32, length int) map[string]*session.Tensor {
	t.Helper()
	ids, mask := make([]int64, len(texts)*length), make([]int64, len(texts)*length)
	for i, text := range texts {
		for j := range length {
			ids[i*length+j] = pad
			if j < len(text) {
				ids[i*length+j], mask[i*length+j] = int64(text[j]), 1
			}
		}
	}
	inputs := map[string]*session.Tensor{}
	for name, x := range map[string][]int64{InputIDs: ids, AttentionMask: mask} {
		v, err := session.New(x, int64(len(texts)), int64(length))
		if err != nil {
			t.Fatal(err)
		}
		inputs[name] = v
	}
	return inputs
}

type failer interface{ Fatal(...any) }

func run(t failer, s session.Session, inputs map[string]*session.Tensor, output string) []float32 {
	out, err := s.Run(context.Background(), inputs, output)
	if err != nil {
		t.Fatal(err)
	}
	defer out[output].Close()
	return slices.Clone(session.Data[float32](out[output]))
}

// TestPaddingAndNeighbours holds that what a text gets does not depend on how
// far it is padded nor on the texts beside it.
func TestPaddingAndNeighbours(t *testing.T) {
	a := small()
	encoderAlone, ngramsAlone := a, a
	encoderAlone.NGrams = NGrams{}
	ngramsAlone.Layers = 0
	for name, a := range map[string]TextEncoder{"both": a, "encoder": encoderAlone, "n-grams": ngramsAlone} {
		t.Run(name, func(t *testing.T) {
			const classes = 3
			var w *Weighing
			if a.NGrams.Orders > 0 {
				w = weighing(a.NGrams, a.Vocabulary)
			}
			m, err := a.Classifier(classes, w, 9)
			if err != nil {
				t.Fatal(err)
			}
			for _, weight := range m.Graph.Initializers { // fresh weights make all logits alike
				if values, ok := weight.Floats(); ok && len(weight.Dims) == 2 {
					for i := range values {
						values[i] *= 10
					}
					*weight = *onnx.NewFloat(weight.Name, values, weight.Dims...)
				}
			}
			s := open(t, m)
			rapid.Check(t, func(rt *rapid.T) {
				word := rapid.Int32Range(0, int32(a.Vocabulary-1))
				texts := rapid.SliceOfN(rapid.SliceOfN(word, 1, a.MaxLength), 1, 5).Draw(rt, "texts")
				longest := 0
				for _, text := range texts {
					longest = max(longest, len(text))
				}
				length := rapid.IntRange(longest, a.MaxLength).Draw(rt, "length")
				together := run(rt, s, batch(t, texts, length), Logits)
				for i, text := range texts {
					alone := run(rt, s, batch(t, [][]int32{text}, len(text)), Logits)
					for j, want := range alone {
						got := together[i*classes+j]
						if !(math.Abs(float64(got-want)) <= 1e-4*(1+math.Abs(float64(want)))) {
							rt.Fatalf("text %d, class %d: %v in the batch, %v alone", i, j, got, want)
						}
					}
				}
			})
		})
	}
}

// TestWeightsByNameAndSeed holds that a weight depends on the seed and its
// name alone.
func TestWeightsByNameAndSeed(t *testing.T) {
	weights := func(a TextEncoder, seed uint64) map[string][]float32 {
		w := weighing(a.NGrams, a.Vocabulary)
		m, err := a.Classifier(3, w, seed)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string][]float32{}
		for _, x := range m.Graph.Initializers {
			if values, ok := x.Floats(); ok && len(x.Dims) > 1 {
				out[x.Name] = values
			}
		}
		return out
	}
	a := small()
	deeper := a
	deeper.Layers++
	first, again, other, more := weights(a, 1), weights(a, 1), weights(a, 2), weights(deeper, 1)
	if len(first) < 10 || len(more) <= len(first) {
		t.Fatalf("%d and %d matrices", len(first), len(more))
	}
	for name, values := range first {
		if !slices.Equal(values, again[name]) || !slices.Equal(values, more[name]) {
			t.Errorf("%s is drawn anew", name)
		}
		if slices.Equal(values, other[name]) {
			t.Errorf("%s does not depend on the seed", name)
		}
	}
}

func TestValidate(t *testing.T) {
	for field, change := range map[string]func(*TextEncoder){
		"":                      func(*TextEncoder) {},
		"model.hidden":          func(a *TextEncoder) { a.Hidden = 4 },
		"model.heads":           func(a *TextEncoder) { a.Heads = 3 },
		"model.layers":          func(a *TextEncoder) { a.Layers = 97 },
		"model.feed_forward":    func(a *TextEncoder) { a.FeedForward = 0 },
		"model.max_length":      func(a *TextEncoder) { a.MaxLength = 1 },
		"model.vocabulary":      func(a *TextEncoder) { a.Vocabulary = 1<<20 + 1 },
		"model.dropout":         func(a *TextEncoder) { a.Dropout = 1 },
		"model.ngrams.orders":   func(a *TextEncoder) { a.NGrams.Orders = 6 },
		"model.ngrams.buckets":  func(a *TextEncoder) { a.NGrams.Buckets = 1 },
		"model.ngrams.width":    func(a *TextEncoder) { a.NGrams.Width = 0 },
		"model.heads ":          func(a *TextEncoder) { a.Heads = -2 },
		"model.ngrams.buckets ": func(a *TextEncoder) { a.NGrams.Buckets = 1<<24 + 1 },
	} {
		a := small()
		change(&a)
		err := a.Validate()
		if want := strings.TrimSpace(field); want == "" {
			if err != nil {
				t.Error(err)
			}
		} else if galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := small().Classifier(1, weighing(small().NGrams, 40), 1); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("one class: %v", err)
	}
}

// TestMaskedLM holds that the graph for pretraining gives at the masked
// places what the graph for use gives everywhere.
func TestMaskedLM(t *testing.T) {
	a := small()
	training, err := a.MaskedLM(true, 4)
	if err != nil {
		t.Fatal(err)
	}
	use, err := a.MaskedLM(false, 4)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	texts := [][]int32{randomText(r, 9, a.Vocabulary), randomText(r, 5, a.Vocabulary)}
	const length = 11
	inputs := batch(t, texts, length)
	all := run(t, open(t, use), inputs, TokenLogits)
	positions := []int64{3, 9, length + 2}
	if inputs[Positions], err = session.New(positions, int64(len(positions))); err != nil {
		t.Fatal(err)
	}
	masked := run(t, open(t, training), inputs, TokenLogits)
	if len(masked) != len(positions)*a.Vocabulary {
		t.Fatalf("%d logits", len(masked))
	}
	for i, p := range positions {
		for j := range a.Vocabulary {
			got, want := masked[i*a.Vocabulary+j], all[int(p)*a.Vocabulary+j]
			if math.Abs(float64(got-want)) > 1e-5 {
				t.Fatalf("position %d, token %d: %v, want %v", p, j, got, want)
			}
		}
	}
}
