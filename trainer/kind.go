package trainer

import (
	"reflect"
	"slices"
	"strings"
)

// The kinds of job files. Those up to Federate make a model.
const (
	KindTrain    = "Train"    // from labels, or from texts alone
	KindDistill  = "Distill"  // from other models' answers, and labels
	KindQuantize = "Quantize" // the same model with fewer bits
	KindFederate = "Federate" // from labels that stay with partner institutions
	KindPipeline = "Pipeline" // steps of the other kinds
	KindEval     = "Eval"     // a step: measure a version
	KindPromote  = "Promote"  // a step: point an alias at a version
)

// kinds are those of this build, stepKinds those of a pipeline's steps,
// laterKinds the others of the format.
var (
	modelKinds = []string{KindTrain, KindDistill, KindQuantize, KindFederate}
	kinds      = []string{KindTrain, KindDistill, KindQuantize, KindFederate, KindPipeline}
	stepKinds  = []string{KindTrain, KindDistill, KindQuantize, KindFederate, KindEval, KindPromote}
	laterKinds = []string{"Search"}
)

// attemptKinds are those that run as attempts, for which there have to be
// resources; trainingKinds those whose attempts train; recipeKinds those that
// say how to.
var (
	attemptKinds  = []string{KindTrain, KindDistill, KindQuantize}
	trainingKinds = []string{KindTrain, KindDistill}
	recipeKinds   = []string{KindTrain, KindDistill, KindFederate}
)

// kindFields are the fields that not every kind has, and those that do.
var kindFields = []struct {
	path  string
	kinds []string
}{
	{"name", kinds},
	{"task", modelKinds},
	{"data", stepKinds},
	{"data.train", modelKinds},
	{"data.valid", modelKinds},
	{"data.test", modelKinds},
	{"data.format", modelKinds},
	{"data.columns", modelKinds},
	{"data.fraction", trainingKinds},
	{"data.split", []string{KindEval, KindPromote}},
	{"from", []string{KindTrain, KindQuantize, KindFederate}},
	{"model", []string{KindTrain}},
	{"data.unlabelled", []string{KindDistill}},
	{"teachers", []string{KindDistill}},
	{"student", []string{KindDistill}},
	{"temperature", []string{KindDistill}},
	{"alpha", []string{KindDistill}},
	{"hidden_loss", []string{KindDistill}},
	{"method", []string{KindQuantize}},
	{"weights", []string{KindQuantize}},
	{"activations", []string{KindQuantize}},
	{"calibration", []string{KindQuantize}},
	{"max_drop", []string{KindQuantize}},
	{"federation", []string{KindFederate}},
	{"purpose", []string{KindFederate}},
	{"partners", []string{KindFederate}},
	{"rounds", []string{KindFederate}},
	{"strategy", []string{KindFederate}},
	{"mu", []string{KindFederate}},
	{"min_cohort", []string{KindFederate}},
	{"deadline", []string{KindFederate}},
	{"sample", []string{KindFederate}},
	{"enough", []string{KindFederate}},
	{"weighting", []string{KindFederate}},
	{"max_share", []string{KindFederate}},
	{"clip", []string{KindFederate}},
	{"max_norm", []string{KindFederate}},
	{"metrics", []string{KindFederate}},
	{"attempts", []string{KindFederate}},
	{"pause", []string{KindFederate}},
	{"recipe", recipeKinds},
	{"recipe.early_stop", trainingKinds}, // a partner's validation selects nothing
	{"recipe.validate_every", trainingKinds},
	{"engine", modelKinds},
	{"resources", attemptKinds},
	{"priority", attemptKinds},
	{"needs", attemptKinds},
	{"retries", attemptKinds},
	{"version", []string{KindEval, KindPromote}},
	{"against", []string{KindEval}},
	{"alias", []string{KindPromote}},
	{"steps", []string{KindPipeline}},
}

// runsAttempts reports whether jobs of the spec run as attempts.
func (s Spec) runsAttempts() bool { return slices.Contains(attemptKinds, s.Kind) }

// trains reports whether an attempt of the spec trains.
func (s Spec) trains() bool { return slices.Contains(trainingKinds, s.Kind) }

// Driver names what runs an attempt of the spec: its engine, or the driver of
// a kind that does not train.
func (s Spec) Driver() string {
	if s.Kind == KindQuantize {
		return quantizeDriver
	}
	return s.Engine
}

// kind refuses fields of other kinds. given says whether the spec, or the file
// that it comes from, gives a field.
func (c *checker) kind(s Spec, given func(path string) bool) {
	for _, f := range kindFields {
		if slices.Contains(f.kinds, s.Kind) || !given(f.path) {
			continue
		}
		remedy := "leave it out"
		if s.Kind == KindDistill && (f.path == "model" || f.path == "from") {
			remedy = "describe the student: student: {layers: 1, hidden: 64}, or student: {from: VERSION}"
		}
		c.wrong(f.path, remedy, "goes with kind: %s, and the file is of kind: %s", strings.Join(f.kinds, " or "), s.Kind)
	}
}

// gives reports whether the field at a path of the job file is not empty.
func (s Spec) gives(path string) bool {
	if id, rest, ok := strings.Cut(path, ".spec."); ok {
		i := slices.IndexFunc(s.Steps, func(step PipelineStep) bool { return "steps."+step.ID == id })
		return i >= 0 && s.Steps[i].Spec.gives(rest)
	}
	v := reflect.ValueOf(s)
	for name := range strings.SplitSeq(path, ".") {
		for _, f := range reflect.VisibleFields(v.Type()) {
			if !f.Anonymous && f.Tag.Get("yaml") == name {
				v = v.FieldByIndex(f.Index)
				break
			}
		}
	}
	return !v.IsZero()
}
