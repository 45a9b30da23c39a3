package baseline

import (
	"context"
	"math"
	"slices"
)

// A regression is multinomial logistic regression. The weights of a feature
// lie together, one per label; after the last feature come the intercepts.
type regression struct {
	labels  int
	weights []float64
}

func newRegression(features, labels int) *regression {
	return &regression{labels: labels, weights: make([]float64, (features+1)*labels)}
}

// scores writes the logits of a vector into z.
func (r *regression) scores(z []float64, terms []term, weights []float64) {
	copy(z, weights[len(weights)-r.labels:])
	for _, t := range terms {
		x := float64(t.weight)
		for k, w := range weights[int(t.feature)*r.labels : (int(t.feature)+1)*r.labels] {
			z[k] += x * w
		}
	}
}

// softmax turns logits into probabilities and returns the logarithm of the
// sum of their exponentials.
func softmax(z []float64) float64 {
	top, sum := slices.Max(z), 0.0
	for k := range z {
		z[k] = math.Exp(z[k] - top)
		sum += z[k]
	}
	for k := range z {
		z[k] /= sum
	}
	return top + math.Log(sum)
}

// fit minimises the mean loss over the rows plus |w|²/(2·c·rows), with the
// intercepts left out of the penalty, from the weights it has. It is what
// scikit-learn's LogisticRegression(C=c) minimises.
func (r *regression) fit(ctx context.Context, m *matrix, c float64) error {
	penalty := 1 / (c * float64(m.rows()))
	return lbfgs(r.weights, func(x, gradient []float64) (float64, error) {
		return r.objective(x, gradient, m, penalty), ctx.Err()
	})
}

// objective returns the function to minimise at weights x and writes its
// gradient.
func (r *regression) objective(x, gradient []float64, m *matrix, penalty float64) float64 {
	clear(gradient)
	z := make([]float64, r.labels)
	intercepts := gradient[len(gradient)-r.labels:]
	loss := 0.0
	for i := range m.rows() {
		terms, gold := m.row(i), m.labels[i]
		r.scores(z, terms, x)
		own := z[gold]
		loss += softmax(z) - own
		z[gold]--
		for _, t := range terms {
			w := float64(t.weight)
			g := gradient[int(t.feature)*r.labels : (int(t.feature)+1)*r.labels]
			for k, d := range z {
				g[k] += w * d
			}
		}
		for k, d := range z {
			intercepts[k] += d
		}
	}
	scale, square := 1/float64(m.rows()), 0.0
	features := len(gradient) - r.labels
	for i := range gradient {
		gradient[i] *= scale
		if i < features {
			gradient[i] += penalty * x[i]
			square += x[i] * x[i]
		}
	}
	return loss*scale + penalty*square/2
}
