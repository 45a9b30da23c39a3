package evals

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func calibrationOf(confidence []float64, right []bool) calibration {
	c := calibration{}
	for i, p := range confidence {
		c.add(right[i], p)
	}
	return c
}

func TestCalibrationKnownValues(t *testing.T) {
	// torchmetrics' documentation of binary_calibration_error: .29 with two
	// bins, whose bound of .5 is where equal mass puts it, too.
	c := calibrationOf([]float64{.25, .25, .55, .75, .75}, []bool{false, false, true, true, true})
	near(t, "ece", distance(c.bins(2), 5, nil), .29, 1e-9)

	// By hand: 40 rows in two bins, 20 with confidence .6 of which 15 are
	// right, 20 with .9 of which 15 are right: (.15 + .15) / 2.
	var confidence []float64
	var right []bool
	for i := range 40 {
		confidence = append(confidence, []float64{.6, .9}[i%2])
		right = append(right, i/2%4 != 0)
	}
	m := calibrationOf(confidence, right).metric(40)
	near(t, "ece", m.Value, .15, 1e-9)
	if m.Low > m.Value || m.High < m.Value || m.Low < 0 || m.N != 40 {
		t.Errorf("%+v", m)
	}
	bins := calibrationOf(confidence, right).reliability(40)
	if len(bins) != 2 || bins[0].N != 20 || bins[1].N != 20 {
		t.Fatalf("%+v", bins)
	}
	near(t, "confidence", bins[1].Confidence, .9, 1e-12)
	near(t, "accuracy", bins[1].Accuracy.Value, .75, 1e-12)
	if bins := (calibration{}).reliability(0); len(bins) != 0 {
		t.Errorf("%+v", bins)
	}
	if m := (calibration{}).metric(0); m.Value != 0 || m.Low != 0 || m.High != 1 {
		t.Errorf("no rows: %+v", m)
	}
	if m := calibrationOf([]float64{1}, []bool{true}).metric(1); m.Value != 0 || m.High != 1 {
		t.Errorf("one row: %+v", m)
	}
}

// The interval covers the truth about 95 times in 100 where the error is
// larger than the noise.
func TestCalibrationCovers(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	covered := 0
	const trials, rows, off = 400, 1000, .12
	for range trials {
		c := calibration{}
		for range rows {
			p := .6 + .4*random.Float64()
			c.add(random.Float64() < p-off, p)
		}
		if m := c.metric(rows); m.Low <= off && off <= m.High {
			covered++
		}
	}
	if share := float64(covered) / trials; share < .91 || share > .98 {
		t.Errorf("covers %.3f of the time", share)
	}
}

// The error lies between 0 and 1, no order of rows changes it, and bins hold
// all rows.
func TestCalibrationProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		confidence := rapid.SliceOfN(rapid.Float64Range(0, 1), n, n).Draw(t, "confidence")
		right := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "right")
		a, b := calibrationOf(confidence, right), calibration{}
		for i := n - 1; i >= 0; i-- {
			b.add(right[i], confidence[i])
		}
		rows := 0
		for _, bin := range a.bins(rapid.IntRange(1, 20).Draw(t, "bins")) {
			rows += bin.n
		}
		x, y := a.metric(n), b.metric(n)
		if rows != n || math.Abs(x.Value-y.Value) > 1e-12 || x.Low < 0 || x.Low > x.Value || x.High < x.Value || x.High > 1 {
			t.Fatalf("%d rows, %+v, reversed %+v", rows, x, y)
		}
	})
}
