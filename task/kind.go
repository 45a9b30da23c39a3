package task

import (
	"slices"

	"galley"
)

// A Kind names a task.
type Kind string

// The tasks that can be trained and served.
const (
	TextClassification Kind = "text-classification"
	TextMLM            Kind = "text-mlm" // pretraining: predicting masked tokens
)

// planned are the tasks that job files may come to name.
var planned = []Kind{"token-classification", "text-embedding", "image-classification", "speech-ctc"}

// ParseKind checks the name of a task.
func ParseKind(s string) (Kind, error) {
	kind := Kind(s)
	switch {
	case kind == TextClassification || kind == TextMLM:
		return kind, nil
	case slices.Contains(planned, kind):
		return "", galley.Errorf(galley.Unimplemented, "task", "%s is not there yet", kind).
			WithRemedy("the tasks are %s and %s", TextClassification, TextMLM)
	default:
		return "", galley.Errorf(galley.InvalidArgument, "task", "%q is not a task", galley.Clip(s, 80)).
			WithRemedy("the tasks are %s and %s", TextClassification, TextMLM)
	}
}

// Metrics lists the metrics of the task's reports, the deciding one first.
func (k Kind) Metrics() []string {
	switch k {
	case TextClassification:
		return []string{"accuracy", "macro_f1", "loss"}
	case TextMLM:
		return []string{"loss", "accuracy"}
	default:
		return nil
	}
}
