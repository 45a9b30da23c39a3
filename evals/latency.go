package evals

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// warmUp is how many requests go ahead of those that are measured: the first
// ones pay for memory and caches.
const warmUp = 5

// A comparison of latencies asks for each text this often, within a time
// that does not let large models wait longer than they must.
const (
	leastRounds   = 3
	mostRounds    = 9
	roundsWithin  = 4 * time.Second
	latencyDraws  = 500
	LatencyMedian = "latency_ms.p50" // as rules name them
	LatencyTail   = "latency_ms.p99"
)

// timings are how long one model's single requests took, by text and round,
// in milliseconds.
type timings [][]float64

// measureLatency asks the models for one text at a time.
func measureLatency(ctx context.Context, models []Contender, texts []string) ([]timings, error) {
	runs := make([]Request, len(models))
	for k, m := range models {
		runs[k] = func(ctx context.Context, i int) error {
			_, err := ask(ctx, m.Predictor, texts[i:i+1], m.Name)
			return err
		}
	}
	return inTurns(ctx, runs, len(texts))
}

// A Request asks a model for number i of some inputs.
type Request func(ctx context.Context, i int) error

// LatencyRatios compares how long one model takes for each of n inputs with how
// long another does, asked in turns: LatencyMedian and LatencyTail, own over
// other, as a report has them. It is for models that are no Predictor.
func LatencyRatios(ctx context.Context, n int, own, other Request) (map[string]Metric, error) {
	took, err := inTurns(ctx, []Request{own, other}, n)
	if err != nil {
		return nil, err
	}
	return ratios(took[0], took[1]), nil
}

// inTurns asks models for one input at a time, one after the other. Of several
// models each input is asked in turns, the first one changing, and again in
// further rounds: what disturbs the machine for a while disturbs them alike.
func inTurns(ctx context.Context, models []Request, n int) ([]timings, error) {
	took := make([]timings, len(models))
	for k, request := range models {
		took[k] = make(timings, n)
		for i := range min(warmUp, n) {
			if err := request(ctx, i); err != nil {
				return nil, err
			}
		}
	}
	began := time.Now()
	for round := 0; round < 1 || len(models) > 1 && (round < leastRounds || round < mostRounds && time.Since(began) < roundsWithin); round++ {
		for i := range n {
			for turn := range models {
				k := (turn + i + round) % len(models)
				start := time.Now()
				if err := models[k](ctx, i); err != nil {
					return nil, err
				}
				took[k][i] = append(took[k][i], float64(time.Since(start))/float64(time.Millisecond))
			}
		}
	}
	return took, nil
}

// latency describes all requests.
func (t timings) latency() Latency {
	all := slices.Concat(t...)
	if len(all) == 0 {
		return Latency{}
	}
	slices.Sort(all)
	sum := 0.0
	for _, x := range all {
		sum += x
	}
	return Latency{P50: percentile(all, .5), P99: percentile(all, .99), Mean: sum / float64(len(all)), N: len(all), Histogram: histogram(all)}
}

// mostBuckets bounds the histogram of latencies.
const mostBuckets = 24

// histogram counts times in buckets of equal width on a logarithmic scale.
func histogram(sorted []float64) []Bucket {
	const least = 1e-6 // clocks may see no time pass
	low, high := math.Log(max(least, sorted[0])), math.Log(max(least, sorted[len(sorted)-1]))
	number := min(mostBuckets, 1+int(math.Sqrt(float64(len(sorted)))))
	width := (high - low) / float64(number)
	if width < 1e-9 {
		return []Bucket{{FromMS: sorted[0], ToMS: sorted[len(sorted)-1], N: len(sorted)}}
	}
	out := make([]Bucket, number)
	for i := range out {
		out[i].FromMS, out[i].ToMS = math.Exp(low+width*float64(i)), math.Exp(low+width*float64(i+1))
	}
	for _, x := range sorted {
		out[min(number-1, int((math.Log(max(least, x))-low)/width))].N++
	}
	return out
}

// medians returns the median time of each text.
func (t timings) medians() []float64 {
	out := make([]float64, len(t))
	for i, rounds := range t {
		sorted := slices.Sorted(slices.Values(rounds))
		out[i] = percentile(sorted, .5)
	}
	return out
}

// ratios compares the latencies of a model with another's on the same texts.
//
// Each text counts with the median of its rounds, so that a hiccup of the
// machine, which hits one round, moves neither p50 nor p99: what is left of
// the tail is the texts that a model takes long for. The intervals draw texts
// again, the same ones for both models, of which the tail knows only a few:
// the interval of p99 says how little.
func ratios(own, other timings) map[string]Metric {
	if len(own) == 0 || len(own[0]) == 0 {
		return nil
	}
	a, b := own.medians(), other.medians()
	out := make(map[string]Metric, 2)
	random := rand.New(rand.NewPCG(bootSeed, uint64(len(a))))
	values := map[string][]float64{}
	x, y := make([]float64, len(a)), make([]float64, len(a))
	for draw := range latencyDraws + 1 {
		for i := range a {
			from := i // at first the texts as they are
			if draw > 0 {
				from = random.IntN(len(a))
			}
			x[i], y[i] = a[from], b[from]
		}
		slices.Sort(x)
		slices.Sort(y)
		for _, q := range []struct {
			name string
			at   float64
		}{{LatencyMedian, .5}, {LatencyTail, .99}} {
			ratio := percentile(x, q.at) / max(percentile(y, q.at), 1e-6)
			if draw == 0 {
				out[q.name] = Metric{Value: ratio, N: len(a), Method: fmt.Sprintf("paired bootstrap of medians of %d", len(own[0]))}
				continue
			}
			values[q.name] = append(values[q.name], ratio)
		}
	}
	for name, m := range out {
		slices.Sort(values[name])
		m.Low, m.High = min(m.Value, percentile(values[name], .025)), max(m.Value, percentile(values[name], .975))
		out[name] = m
	}
	return out
}

// A reservoir keeps an even sample of a stream (Vitter's algorithm R, 1985).
// Its choice depends on the number of items alone.
type reservoir[T any] struct {
	size   int
	seen   int
	kept   []T
	random *rand.Rand
}

// newReservoir keeps so many items; stream tells apart samples that are
// not to be chosen alike.
func newReservoir[T any](size int, stream uint64) reservoir[T] {
	return reservoir[T]{size: size, random: rand.New(rand.NewPCG(bootSeed, stream))}
}

func (r *reservoir[T]) offer(item T) {
	r.seen++
	if len(r.kept) < r.size {
		r.kept = append(r.kept, item)
		return
	}
	if i := r.random.IntN(r.seen); i < r.size {
		r.kept[i] = item
	}
}

// process is what the process has used since it began; zero where the system
// does not say.
type process struct {
	cpu  float64 // seconds
	peak int64   // bytes of resident memory
}
