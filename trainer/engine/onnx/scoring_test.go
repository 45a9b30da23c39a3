package onnx

import (
	"math"
	"testing"

	"galley"
)

// scoreRows runs a scoring over rows of two branches in uneven batches and
// reports the most rows that it held back.
func scoreRows(t *testing.T, s *scoring, classes int, e, n []float32, labels []int) (metrics map[string]float64, score float64, held int) {
	t.Helper()
	for at, size := 0, 1; at < len(labels); size = size%700 + 97 {
		to := min(at+size, len(labels))
		batch := make([]example, to-at)
		for i := range batch {
			batch[i].label = labels[at+i]
		}
		if err := s.add(batch, [][]float32{e[at*classes : to*classes], n[at*classes : to*classes]}); err != nil {
			t.Fatal(err)
		}
		held, at = max(held, len(s.labels), cap(s.labels)/2), to
	}
	metrics, score, err := s.finish()
	if err != nil {
		t.Fatal(err)
	}
	return metrics, score, held
}

// TestScoringHoldsFewRows holds that the blend is that of the first rows
// alone, that every row is counted, and that no more are held back however
// many come.
func TestScoringHoldsFewRows(t *testing.T) {
	const classes = 3
	labels := []string{"a", "b", "c"}
	for _, rows := range []int{1, maxBlendRows - 1, maxBlendRows, 2*maxBlendRows + 11} {
		e, n, gold := blendRows(9, rows, classes, 1, 2)
		s := newScoring(labels, 2)
		metrics, _, held := scoreRows(t, s, classes, e, n, gold)
		first := min(rows, maxBlendRows)
		if want := fitBlend(e[:first*classes], n[:first*classes], gold[:first]); s.blend != want {
			t.Errorf("%d rows: the blend is %+v, want %+v", rows, s.blend, want)
		}
		if s.result.N() != rows || held > maxBlendRows || s.held != nil {
			t.Errorf("%d rows: %d counted, %d held back", rows, s.result.N(), held)
		}
		if rows > 1 && !(metrics["accuracy"] > 0.8) {
			t.Errorf("%d rows: accuracy %v", rows, metrics["accuracy"])
		}
	}
	wide := newScoring(make([]string, 10_000), 2)
	if wide.most*10_000 > maxBlendLogits {
		t.Errorf("%d rows of ten thousand classes are held back", wide.most)
	}
}

// TestScoringWithoutRowsOfAClass holds that a class which the validation
// split does not have neither breaks nor moves the metrics.
func TestScoringWithoutRowsOfAClass(t *testing.T) {
	e, n, gold := blendRows(5, 300, 2, 1, 2)
	without := func(logits []float32) (out []float32) { // a third class, and nobody's answer
		for i := 0; i < len(logits); i += 2 {
			out = append(out, logits[i], logits[i+1], -100)
		}
		return out
	}
	two, _, _ := scoreRows(t, newScoring([]string{"a", "b"}, 2), 2, e, n, gold)
	three, _, _ := scoreRows(t, newScoring([]string{"a", "b", "c"}, 2), 3, without(e), without(n), gold)
	for name, want := range two {
		if math.Abs(three[name]-want) > 1e-6 {
			t.Errorf("%s is %v with an empty class, %v without", name, three[name], want)
		}
	}
}

// TestScoringOrder holds that one more right answer is worth more than any
// loss, also on a large split, and that the loss settles ties.
func TestScoringOrder(t *testing.T) {
	const rows = 30_000
	score := func(right int, margin float32) float64 {
		s := newScoring([]string{"a", "b"}, 1)
		for i := range rows {
			logits := []float32{margin, 0}
			if i >= right {
				logits = []float32{0, margin}
			}
			if err := s.add([]example{{label: 0}}, [][]float32{logits}); err != nil {
				t.Fatal(err)
			}
		}
		_, score, err := s.finish()
		if err != nil {
			t.Fatal(err)
		}
		return score
	}
	if more, fewer := score(20_001, 10), score(20_000, 0.1); more <= fewer {
		t.Errorf("20,001 right answers score %v, 20,000 with a lower loss %v", more, fewer)
	}
	if low, high := score(20_000, 0.1), score(20_000, 10); low <= high {
		t.Errorf("of as many right answers a lower loss scores %v, a higher one %v", low, high)
	}
}

func TestScoringRefusesWhatIsNotANumber(t *testing.T) {
	nan := float32(math.NaN())
	for _, branches := range []int{1, 2} {
		s := newScoring([]string{"a", "b"}, branches)
		logits := [][]float32{{nan, 0}, {0, 0}}[:branches]
		err := s.add([]example{{}}, logits)
		if err == nil {
			_, _, err = s.finish()
		}
		if galley.CodeOf(err) != galley.OutOfRange {
			t.Errorf("%d branches: %v", branches, err)
		}
	}
}
