package evals

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// warmUp is how many requests go ahead of those that are measured: the first
// ones pay for memory and caches.
const warmUp = 5

// measureLatency asks for one text at a time, one after the other.
func measureLatency(ctx context.Context, p Predictor, texts []string) (Latency, error) {
	if len(texts) == 0 {
		return Latency{}, nil
	}
	for i := range min(warmUp, len(texts)) {
		if _, err := ask(ctx, p, texts[i:i+1], "the model"); err != nil {
			return Latency{}, err
		}
	}
	took := make([]float64, len(texts))
	sum := 0.0
	for i := range texts {
		start := time.Now()
		if _, err := ask(ctx, p, texts[i:i+1], "the model"); err != nil {
			return Latency{}, err
		}
		took[i] = float64(time.Since(start)) / float64(time.Millisecond)
		sum += took[i]
	}
	slices.Sort(took)
	return Latency{
		P50:  percentile(took, .5),
		P99:  percentile(took, .99),
		Mean: sum / float64(len(took)),
		N:    len(took),
	}, nil
}

// A reservoir keeps an even sample of a stream of texts (Vitter's algorithm R,
// 1985). Its choice depends on their number alone.
type reservoir struct {
	size   int
	seen   int
	texts  []string
	random *rand.Rand
}

func newReservoir(size int) reservoir {
	return reservoir{size: size, random: rand.New(rand.NewPCG(bootSeed, 1))}
}

func (r *reservoir) offer(text string) {
	r.seen++
	if len(r.texts) < r.size {
		r.texts = append(r.texts, text)
		return
	}
	if i := r.random.IntN(r.seen); i < r.size {
		r.texts[i] = text
	}
}

// process is what the process has used since it began; zero where the system
// does not say.
type process struct {
	cpu  float64 // seconds
	peak int64   // bytes of resident memory
}
