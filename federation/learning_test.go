package federation

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// A line is what a partner trains in this test: y = w·x, least squares.
type line struct {
	x [][]float64
	y []float64
}

// descend takes steps of gradient descent from w, towards origin with the
// strength mu, as FedProx does.
func (l line) descend(w []float32, steps int, rate, mu float64) []float32 {
	at := make([]float64, len(w))
	for i := range w {
		at[i] = float64(w[i])
	}
	for range steps {
		gradient := make([]float64, len(at))
		for r, x := range l.x {
			residual := -l.y[r]
			for i := range at {
				residual += at[i] * x[i]
			}
			for i := range at {
				gradient[i] += 2 * residual * x[i] / float64(len(l.x))
			}
		}
		for i := range at {
			at[i] -= rate * (gradient[i] + mu*(at[i]-float64(w[i])))
		}
	}
	out := make([]float32, len(at))
	for i := range at {
		out[i] = float32(at[i])
	}
	return out
}

// unlike are three partners whose rows have nothing in common but the truth.
func unlike() (partners []line, pooled line) {
	r := rand.New(rand.NewPCG(5, 5))
	truth := []float64{1, -2, 3, 0.5}
	for p, rows := range []int{40, 200, 90} {
		var l line
		for range rows {
			x := make([]float64, len(truth))
			y := 0.0
			for i := range x {
				if x[i] = r.NormFloat64(); i == p {
					x[i] *= 3 // each knows one thing better than the others
				}
				y += truth[i] * x[i]
			}
			l.x, l.y = append(l.x, x), append(l.y, y+0.1*r.NormFloat64())
		}
		partners = append(partners, l)
		pooled.x, pooled.y = append(pooled.x, l.x...), append(pooled.y, l.y...)
	}
	return partners, pooled
}

// federate runs rounds of all three partners and returns the weights.
func federate(t *testing.T, partners []line, rounds, steps int, rate, mu float64) []float32 {
	l := Layout{{"w", []int64{4}}}
	base := make([]float32, 4)
	for range rounds {
		data, _ := encode(t, l, base)
		files := shelf{}
		rows := make([]int64, len(partners))
		parts := make([]Part, len(partners))
		for i, p := range partners {
			var b bytes.Buffer
			found, err := WriteUpdate(&b, l, [][]float32{base}, [][]float32{p.descend(base, steps, rate, mu)}, 0)
			if err != nil {
				t.Fatal(err)
			}
			files[found.Digest] = b.Bytes()
			rows[i] = int64(len(p.x))
			parts[i] = Part{string(rune('a' + i)), found.Digest, 0, 1}
		}
		for i, share := range shares(rows, 1) {
			parts[i].Share = share
		}
		var out bytes.Buffer
		if _, err := Aggregate(&out, l, bytes.NewReader(data), parts, files.open); err != nil {
			t.Fatal(err)
		}
		base = decode(t, l, out.Bytes())[0]
	}
	return base
}

func distance(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum = math.Hypot(sum, float64(a[i])-float64(b[i]))
	}
	return sum
}

// One step a round, weighed by rows, is gradient descent on all rows at once:
// what federated averaging is equal to where it can be equal to something.
func TestOneStepARoundIsPooledDescent(t *testing.T) {
	partners, pooled := unlike()
	got := federate(t, partners, 20, 1, 0.02, 0)
	want := make([]float32, 4)
	for range 20 {
		want = pooled.descend(want, 1, 0.02, 0)
	}
	if d := distance(got, want); d > 1e-5 {
		t.Errorf("%v, and on pooled rows %v", got, want)
	}
}

// With many steps a round partners drift apart; what they make together is still
// nearer to what all rows say than what the best of them makes alone.
func TestRoundsOfManySteps(t *testing.T) {
	partners, pooled := unlike()
	best := pooled.descend(make([]float32, 4), 3000, 0.02, 0)
	averaged := distance(federate(t, partners, 15, 30, 0.02, 0), best)
	proximal := distance(federate(t, partners, 15, 30, 0.02, 1), best)
	alone := math.Inf(1)
	for _, p := range partners {
		alone = min(alone, distance(p.descend(make([]float32, 4), 3000, 0.02, 0), best))
	}
	t.Logf("from the pooled optimum: fedavg %.4f, fedprox %.4f, the best alone %.4f", averaged, proximal, alone)
	if averaged >= alone || proximal >= alone {
		t.Errorf("federated %g and %g, alone %g", averaged, proximal, alone)
	}
}
