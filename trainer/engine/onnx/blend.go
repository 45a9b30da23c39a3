package onnx

import "math"

// A blend is how much each branch of a classifier's logits counts: the
// encoder, which needs many rows to be good, and the n-grams, which are good
// with few. It is fitted on the validation split by logistic regression of
// the labels on the two branches' logits, so it also calibrates their sum.
type blend struct {
	Encoder float64 `json:"encoder"`
	NGrams  float64 `json:"ngrams"`
}

// evenBlend is what branches count while training.
var evenBlend = blend{1, 1}

// Bounds of a blend: a branch does not count against itself, and rows that
// are all told apart do not push it to infinity.
const (
	mostBlend   = 8.0
	blendPrior  = 0.5 // pseudo-rows that hold the blend near the even one
	blendRounds = 50
)

// fitBlend returns the blend with the least loss on rows of classes logits
// each. The loss is convex; Newton's steps are halved until it falls.
func fitBlend(encoder, ngrams []float32, labels []int) blend {
	b := evenBlend
	loss := b.loss(encoder, ngrams, labels)
	for range blendRounds {
		next, nextLoss, ok := b.improve(encoder, ngrams, labels, loss)
		if !ok {
			break
		}
		done := loss-nextLoss < 1e-9*(1+math.Abs(loss))
		b, loss = next, nextLoss
		if done {
			break
		}
	}
	return b
}

// improve takes one step; ok is false if none lowers the loss. Where a bound
// is in the way of Newton's step, one factor moves while the other stays: a
// convex loss that falls along neither factor is at its least within bounds.
func (b blend) improve(encoder, ngrams []float32, labels []int, loss float64) (blend, float64, bool) {
	g, h := b.derivatives(encoder, ngrams, labels)
	det := h[0]*h[2] - h[1]*h[1]
	for _, d := range [][2]float64{
		{(h[2]*g[0] - h[1]*g[1]) / det, (h[0]*g[1] - h[1]*g[0]) / det},
		{g[0] / h[0], 0},
		{0, g[1] / h[2]},
	} {
		for step := 1.0; step > 1e-6; step /= 2 {
			next := blend{clampBlend(b.Encoder - step*d[0]), clampBlend(b.NGrams - step*d[1])}
			if l := next.loss(encoder, ngrams, labels); l < loss {
				return next, l, true
			}
		}
	}
	return b, loss, false
}

func clampBlend(x float64) float64 { return math.Min(math.Max(x, 0), mostBlend) }

func (b blend) loss(encoder, ngrams []float32, labels []int) float64 {
	classes := len(encoder) / len(labels)
	p := make([]float64, classes)
	sum := blendPrior / 2 * ((b.Encoder-1)*(b.Encoder-1) + (b.NGrams-1)*(b.NGrams-1))
	for i, y := range labels {
		sum += b.row(p, encoder[i*classes:], ngrams[i*classes:], y)
	}
	return sum
}

// row writes the probabilities of a row's classes to p and returns the loss.
func (b blend) row(p []float64, encoder, ngrams []float32, label int) float64 {
	most := math.Inf(-1)
	for j := range p {
		p[j] = b.Encoder*float64(encoder[j]) + b.NGrams*float64(ngrams[j])
		most = math.Max(most, p[j])
	}
	at, sum := p[label], 0.0
	for j := range p {
		p[j] = math.Exp(p[j] - most)
		sum += p[j]
	}
	for j := range p {
		p[j] /= sum
	}
	return most + math.Log(sum) - at
}

// derivatives are the loss's gradient, and its second derivatives ee, en, nn.
func (b blend) derivatives(encoder, ngrams []float32, labels []int) (g [2]float64, h [3]float64) {
	classes := len(encoder) / len(labels)
	p := make([]float64, classes)
	g = [2]float64{blendPrior * (b.Encoder - 1), blendPrior * (b.NGrams - 1)}
	h = [3]float64{blendPrior, 0, blendPrior}
	for i, y := range labels {
		e, n := encoder[i*classes:(i+1)*classes], ngrams[i*classes:(i+1)*classes]
		b.row(p, e, n, y)
		var me, mn, ee, en, nn float64
		for j, q := range p {
			x, z := float64(e[j]), float64(n[j])
			me += q * x
			mn += q * z
			ee += q * x * x
			en += q * x * z
			nn += q * z * z
		}
		g[0] += me - float64(e[y])
		g[1] += mn - float64(n[y])
		h[0] += ee - me*me
		h[1] += en - me*mn
		h[2] += nn - mn*mn
	}
	return g, h
}
