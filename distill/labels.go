package distill

import (
	"fmt"
	"slices"
	"strings"

	"galley"
)

// Align returns where each of the student's labels stands among the teacher's.
// Both must be the same set; their order may differ. name names the teacher in
// the error.
func Align(name string, teacher, student []string) ([]int, error) {
	at := make(map[string]int, len(teacher))
	for i, label := range teacher {
		at[label] = i
	}
	places := make([]int, len(student))
	var missing []string
	for i, label := range student {
		place, ok := at[label]
		if !ok {
			missing = append(missing, label)
		}
		places[i] = place
	}
	var foreign []string
	for _, label := range teacher {
		if !slices.Contains(student, label) {
			foreign = append(foreign, label)
		}
	}
	if len(missing)+len(foreign) == 0 {
		return places, nil
	}
	var differ []string
	if len(missing) > 0 {
		differ = append(differ, "it does not know "+list(missing))
	}
	if len(foreign) > 0 {
		differ = append(differ, "the data do not have its "+list(foreign))
	}
	return nil, galley.Errorf(galley.FailedPrecondition, "teachers", "%s tells other labels apart than the data: %s", name, strings.Join(differ, ", and ")).
		WithRemedy("teacher and student need the same labels, in any order: choose another teacher, or train one on this data")
}

// list names the first labels.
func list(labels []string) string {
	const most = 5
	quoted := make([]string, 0, most)
	for _, label := range labels[:min(most, len(labels))] {
		quoted = append(quoted, fmt.Sprintf("%q", galley.Clip(label, 80)))
	}
	s := strings.Join(quoted, ", ")
	if len(labels) > most {
		s += fmt.Sprintf(" and %d more", len(labels)-most)
	}
	return s
}
