package quantize

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

// TestBudgeted holds that the fewest of the dearest sites are left, with fewer
// measurements than sites.
func TestBudgeted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 200).Draw(t, "sites")
		needed := rapid.IntRange(1, n-1).Draw(t, "needed")
		costs := make([]Cost, n)
		for i := range costs {
			costs[i].Site.Name = fmt.Sprint("site", i)
		}
		asked := 0
		leave, err := Budgeted(context.Background(), costs, 1, func(_ context.Context, leave map[string]bool) (float64, error) {
			asked++
			if len(leave) >= needed {
				return 1, nil
			}
			return 1.5, nil
		})
		if err != nil || len(leave) != needed || asked > 16 {
			t.Fatalf("%d left of %d, %d needed, %d asked: %v", len(leave), n, needed, asked, err)
		}
		for i := range needed {
			if !leave[costs[i].Site.Name] {
				t.Fatalf("%s is not left", costs[i].Site.Name)
			}
		}
	})
}

func TestBudgetNotMet(t *testing.T) {
	for n := range 4 {
		leave, err := Budgeted(t.Context(), make([]Cost, n), 1, func(context.Context, map[string]bool) (float64, error) { return 2, nil })
		if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), "quantised, accuracy drops by more than 1 points — allow a larger max_drop") || leave != nil {
			t.Errorf("%d sites: %v, %v", n, leave, err)
		}
	}
}
