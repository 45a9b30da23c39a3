package kernel

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The known answers that the authors of Philox publish with their code.
func TestPhiloxKnownAnswers(t *testing.T) {
	const ones = math.MaxUint64
	for _, c := range []struct {
		low, high, key uint64
		want           [4]uint32
	}{
		{0, 0, 0, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{ones, ones, ones, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{0x85a308d3_243f6a88, 0x03707344_13198a2e, 0x299f31d0_a4093822, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := philox(c.low, c.high, c.key); got != c.want {
			t.Errorf("philox(%#x, %#x, %#x) = %#x, want %#x", c.low, c.high, c.key, got, c.want)
		}
	}
}

func TestDropoutIsItsTwin(t *testing.T) {
	for _, n := range []int{0, 1, 3, 4, 5, 60, 64, 68, 1000, chunk + 9} {
		for _, offset := range []uint64{0, 1, 2, 3, 4, 1<<34 - 3} {
			got := make([]float32, n)
			DropoutMask(got, 0.3, 42, 7, offset, 2)
			want := make([]float32, (n+int(offset%4)+3)&^3)
			dropoutGo(want, 42, 7, offset/4, uint32(math.Ceil(float64(float32(0.3))*(1<<32))), float32(1/(1-float64(float32(0.3)))))
			sameBits(t, "mask", got, want[offset%4:][:n])
		}
	}
}

func TestDropoutPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		offset := rapid.Uint64Range(0, 1<<40).Draw(t, "offset")
		seed, stream := rapid.Uint64().Draw(t, "seed"), rapid.Uint64().Draw(t, "stream")
		whole := make([]float32, n)
		DropoutMask(whole, 0.5, seed, stream, offset, 1)
		pieces := make([]float32, n)
		for begin := 0; begin < n; {
			end := begin + rapid.IntRange(1, n-begin).Draw(t, "piece")
			DropoutMask(pieces[begin:end], 0.5, seed, stream, offset+uint64(begin), 2)
			begin = end
		}
		if !slices.Equal(whole, pieces) {
			t.Fatal("a mask filled in pieces is another one")
		}
	})
}

func TestDropoutShare(t *testing.T) {
	const n = 1 << 20
	mask := make([]float32, n)
	for _, p := range []float32{0.01, 0.1, 0.5, 0.9} {
		DropoutMask(mask, p, 1, uint64(p*1000), 0, 2)
		dropped, keep := 0, float32(1/(1-float64(p)))
		for _, x := range mask {
			switch x {
			case 0:
				dropped++
			case keep:
			default:
				t.Fatalf("p %v: the mask has %v, want 0 or %v", p, x, keep)
			}
		}
		sigma := math.Sqrt(n * float64(p) * (1 - float64(p)))
		if d := math.Abs(float64(dropped) - n*float64(p)); d > 5*sigma {
			t.Errorf("p %v: %d of %d dropped, %.1f sigma off", p, dropped, n, d/sigma)
		}
	}
}

func TestDropoutEdges(t *testing.T) {
	mask := make([]float32, 9)
	for p, want := range map[float32]float32{0: 1, -1: 1, 1: 0, 2: 0} {
		DropoutMask(mask, p, 1, 1, 1, 1)
		for _, x := range mask {
			if x != want {
				t.Errorf("p %v: the mask has %v, want %v", p, x, want)
			}
		}
	}
	DropoutMask(mask, float32(math.NaN()), 1, 1, 1, 1)
	if mask[8] != 1 {
		t.Errorf("p NaN: the mask has %v, want 1", mask[8])
	}
}

func TestParallel(t *testing.T) {
	for _, threads := range []int{-1, 0, 1, 2, 9} {
		for _, n := range []int{0, 1, 9, 10, 11, 95} {
			seen := make([]int, n) // chunks are disjoint, so the race detector sees any overlap
			Parallel(threads, n, 10, func(begin, end int) {
				if begin%10 != 0 || end-begin > 10 || end <= begin {
					t.Errorf("chunk [%d, %d)", begin, end)
				}
				for i := begin; i < end; i++ {
					seen[i]++
				}
			})
			for i, times := range seen {
				if times != 1 {
					t.Errorf("%d threads, %d elements: %d was visited %d times", threads, n, i, times)
				}
			}
		}
	}
}
