package distill

import (
	"slices"
	"strings"
	"testing"

	"galley"
)

func TestAlign(t *testing.T) {
	got, err := Align("old@1", []string{"a", "b", "c"}, []string{"c", "a", "b"})
	if err != nil || !slices.Equal(got, []int{2, 0, 1}) {
		t.Errorf("%v, %v", got, err)
	}
	many := []string{"1", "2", "3", "4", "5", "6", "7"}
	for _, c := range []struct {
		teacher, student []string
		want             string
	}{
		{[]string{"a", "b"}, []string{"a", "c"},
			`teachers: old@1 tells other labels apart than the data: it does not know "c", and the data do not have its "b" — teacher and student need the same labels, in any order: choose another teacher, or train one on this data`},
		{[]string{"a", "b"}, []string{"a", "b", "c"}, `it does not know "c" —`},
		{[]string{"a", "b"}, []string{"a"}, `the data do not have its "b" —`},
		{nil, many, `it does not know "1", "2", "3", "4", "5" and 2 more —`},
	} {
		_, err := Align("old@1", c.teacher, c.student)
		if galley.CodeOf(err) != galley.FailedPrecondition || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v for %v: %v", c.teacher, c.student, err)
		}
	}
}
