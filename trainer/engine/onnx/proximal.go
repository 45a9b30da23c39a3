package onnx

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"slices"

	"galley"
)

// hold gives the loss a proximal term, mu/2·|w-w0|², where w0 are the weights of
// this moment. Its gradient is part of the loss's: it is added before the norm
// is taken and clipped.
func (l *learner) hold(mu float64) {
	if mu > 0 {
		l.anchor, l.mu = slices.Clone(l.params.weights), mu
	}
}

// proximal writes grads and the gradient of the proximal term to the step's
// sums, and returns the term. That gradient is dense: it must not be left in
// the gradients of tables, of which only rows are cleared that a batch touched.
func (l *learner) proximal(grads []float32) float64 {
	if l.sums == nil {
		l.sums = make([]float32, len(grads))
	}
	mu, squares := float32(l.mu), 0.0
	weights, anchor, sums := l.params.weights, l.anchor[:len(grads)], l.sums[:len(grads)]
	for i, g := range grads {
		d := weights[i] - anchor[i]
		squares += float64(d) * float64(d) // exact in float64: fusing would not round otherwise
		// The conversion keeps the product from being fused with the sum, which
		// would round otherwise on other processors.
		sums[i] = g + float32(mu*d)
	}
	return l.mu / 2 * squares
}

// begunWith names a partner's training by its spec, its proximal term and the
// weights that it begins with: a checkpoint of another round is none of this
// one's, though the specs may be the same.
func (p *parameters) begunWith(spec galley.Digest, mu float64) galley.Digest {
	sum := sha256.New()
	sum.Write([]byte(spec))
	sum.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(mu)))
	writeNumbers(sum, p.weights)
	return galley.SumDigest(sum)
}

func writeNumbers(sum hash.Hash, values []float32) {
	buffer := make([]byte, 0, 4<<13)
	for part := range slices.Chunk(values, cap(buffer)/4) {
		buffer = buffer[:0]
		for _, v := range part {
			buffer = binary.LittleEndian.AppendUint32(buffer, math.Float32bits(v))
		}
		sum.Write(buffer)
	}
}
