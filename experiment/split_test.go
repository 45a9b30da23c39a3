package experiment

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

var salt = []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func TestPlaceIsThatOfSHA256(t *testing.T) {
	const want = 0x2ac222894d12e800 // hashlib
	if got := PlaceOf(salt, "reader-42"); got != want {
		t.Errorf("%#x, not %#x", got, uint64(want))
	}
}

func TestSharesAreKept(t *testing.T) {
	const keys = 20_000
	for _, share := range []int{1, 1000, 5000, 9999} {
		n := 0
		for i := range keys {
			if (Stage{Treatment: share}).Arm(PlaceOf(salt, fmt.Sprint(i))) == Treatment {
				n++
			}
		}
		p := float64(share) / Parts
		if off := math.Abs(float64(n) - keys*p); off > 5*math.Sqrt(keys*p*(1-p))+1 {
			t.Errorf("share %g: %d of %d keys", p, n, keys)
		}
	}
}

// TestAChangeMovesTheFewestKeys: keys go to the arm that grows only, and no
// more of them than it grows by.
func TestAChangeMovesTheFewestKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.IntRange(1, Parts-1).Draw(t, "from"), rapid.IntRange(1, Parts-1).Draw(t, "to")
		const keys = 2000
		moved := 0
		for i := range keys {
			place := PlaceOf(salt, fmt.Sprint(i))
			before, after := (Stage{Treatment: from}).Arm(place), (Stage{Treatment: to}).Arm(place)
			if before == after {
				continue
			}
			moved++
			if (to > from) != (after == Treatment) {
				t.Fatalf("%d -> %d: key %d went to %s", from, to, i, after)
			}
		}
		p := math.Abs(float64(to-from)) / Parts
		if float64(moved) > keys*p+6*math.Sqrt(keys*p*(1-p))+1 {
			t.Fatalf("%d -> %d: %d of %d keys moved", from, to, moved, keys)
		}
	})
}

func TestParseSplit(t *testing.T) {
	for in, want := range map[string]int{"90/10": 1000, "50/50": 5000, "99.5/0.5": 50, "90% / 10%": 1000, "99.99/0.01": 1} {
		got, err := ParseSplit(in)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	for in, message := range map[string]string{
		"90/20":          "the shares 90/20 add up to 110 instead of 100",
		"90":             `"90" is not two shares`,
		"90/ten":         `"ten" is not a share from 0 to 100`,
		"110/-10":        `"110" is not a share from 0 to 100`,
		"100/0":          "an arm without traffic cannot be compared",
		"NaN/10":         `"NaN" is not a share from 0 to 100`,
		"99.999/0.001":   `"99.999" has more than two decimals`,
		"33.3/33.3/33.4": `"33.3/33.4" is not a share from 0 to 100`,
	} {
		_, err := ParseSplit(in)
		if e := galley.AsError(err); err == nil || e.Code != galley.InvalidArgument || e.Message != message || e.Remedy == "" {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzParseSplit(f *testing.F) {
	for _, s := range []string{"90/10", "", "/", "1e2/0", "99.99/0.01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		share, err := ParseSplit(s)
		if err != nil {
			return
		}
		if again, err := ParseSplit(FormatSplit(share)); err != nil || again != share {
			t.Errorf("%q: %d, then %d, %v", s, share, again, err)
		}
	})
}
