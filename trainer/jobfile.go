package trainer

import (
	"fmt"
	"slices"
	"strings"

	"galley"
	"galley/internal/strictyaml"
)

// maxSets bounds the overrides of a job file.
const maxSets = 1000

// ParseFile reads a job file of any kind. sets override its values, each
// path=value as in recipe.epochs=3. What neither says has its default. Every
// mistake is a problem of its own, with its place in the file; a spec that
// comes with problems must not be used.
func ParseFile(data []byte, sets []string) (Spec, strictyaml.Problems) {
	s, problems := parseFile(data, sets)
	return s, problems.Clip()
}

func parseFile(data []byte, sets []string) (Spec, strictyaml.Problems) {
	doc, problems := strictyaml.Parse(data)
	if problems != nil {
		return Spec{}, problems
	}
	if problems := override(doc, sets); problems != nil {
		return Spec{}, problems
	}
	h, problems := readHead(doc, kinds)
	if problems != nil {
		return Spec{}, problems
	}
	if h.Kind == KindPipeline {
		return parsePipeline(doc)
	}
	s, problems := h.decode(doc)
	if problems != nil {
		return Spec{}, problems
	}
	return s, s.validate(doc.Problem, doc.Has)
}

// decode reads the rest of a file, or of a pipeline's step.
func (h head) decode(doc *strictyaml.Document) (Spec, strictyaml.Problems) {
	s := h.defaults()
	if problems := doc.Decode(&s); problems != nil {
		return Spec{}, problems
	}
	for _, m := range []*Model{&s.Model, &s.Student.Model} {
		if m.NGrams.Orders == 0 {
			m.NGrams = NGrams{} // sizes of a table that there is not
		}
	}
	if s.Kind == KindFederate && s.Federation == "" {
		s.Federation = s.Name
	}
	return s, nil
}

func override(doc *strictyaml.Document, sets []string) (problems strictyaml.Problems) {
	if len(sets) > maxSets {
		return strictyaml.Problems{{Path: "--set", Message: fmt.Sprintf("is given %d times", len(sets)),
			Remedy: fmt.Sprintf("give it at most %d times, and write the rest into the file", maxSets)}}
	}
	size := 0
	for _, set := range sets {
		if size += len(set); size > strictyaml.MaxBytes {
			return strictyaml.Problems{{Path: "--set", Message: fmt.Sprintf("all together hold more than %d bytes", strictyaml.MaxBytes)}}
		}
		path, value, ok := strings.Cut(set, "=")
		if !ok || path == "" {
			problems = append(problems, strictyaml.Problem{Path: "--set " + galley.Clip(set, 80), Message: "is not path=value",
				Remedy: "write --set recipe.epochs=3"})
			continue
		}
		if err := doc.Set(path, value); err != nil {
			problems = append(problems, strictyaml.Problem{Path: "--set " + galley.Clip(set, 80), Message: err.Error()})
		}
	}
	return problems
}

// A head is what decides how the rest of a file is read.
type head struct {
	Kind       string `yaml:"kind"`
	APIVersion string `yaml:"apiVersion"`
	Task       string `yaml:"task"`
	From       string `yaml:"from"`

	studentFrom string
}

// defaults returns what a file that begins so leaves out.
func (h head) defaults() Spec {
	switch h.Kind {
	case KindDistill:
		return defaultDistill(h.Task, h.studentFrom != "")
	case KindQuantize:
		return defaultQuantize()
	case KindFederate:
		return defaultFederate()
	case KindEval, KindPromote:
		return defaultMeasure(h.Kind)
	default:
		return defaults(h.Task, h.From != "")
	}
}

// readHead reads the head of a file that may be of the kinds known here. The
// steps of a pipeline need not say the version of the format again.
func readHead(doc *strictyaml.Document, known []string) (head head, problems strictyaml.Problems) {
	if problems = doc.Pick(&head); problems != nil {
		return head, problems
	}
	head.studentFrom = doc.String("student.from")
	wrong := func(path, message, remedy string) {
		problems = append(problems, doc.Problem(path, message, remedy))
	}
	step := !slices.Contains(known, KindPipeline)
	switch {
	case head.Kind == "":
		wrong("kind", "is missing", "write kind: Train")
	case slices.Contains(known, head.Kind):
	case step && head.Kind == KindPipeline:
		wrong("kind", "a pipeline is no step of another", "write its steps here")
	case !step && slices.Contains(stepKinds, head.Kind):
		wrong("kind", head.Kind+" is a step of a pipeline", "write kind: Pipeline and steps, or run galley eval or galley models promote")
	case slices.Contains(laterKinds, head.Kind):
		wrong("kind", head.Kind+" jobs are not there yet", "this build runs kind: "+strings.Join(known, ", "))
	default:
		wrong("kind", fmt.Sprintf("%q is not a kind", galley.Clip(head.Kind, 80)), strictyaml.Nearest(head.Kind, slices.Concat(known, laterKinds)))
	}
	switch {
	case step && head.APIVersion == "":
	case head.APIVersion == "":
		wrong("apiVersion", "is missing", "write apiVersion: "+APIVersion)
	case head.APIVersion != APIVersion:
		wrong("apiVersion", fmt.Sprintf("%q is not a version of this format", galley.Clip(head.APIVersion, 80)), "write apiVersion: "+APIVersion)
	}
	return head, problems
}
