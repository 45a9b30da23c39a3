package trainer

import (
	"fmt"
	"slices"
	"strings"

	"galley"
	"galley/internal/strictyaml"
)

// KindTrain is the kind of a job file that trains one model.
const KindTrain = "Train"

// laterKinds are kinds of the format that this build does not run.
var laterKinds = []string{"Distill", "Quantize", "Federate", "Search", "Eval", "Pipeline"}

// maxSets bounds the overrides of a job file.
const maxSets = 1000

// ParseFile reads a job file of kind Train. sets override its values, each
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
	h, problems := readHead(doc)
	if problems != nil {
		return Spec{}, problems
	}
	s := defaults(h.Task, h.From != "")
	if problems := doc.Decode(&s); problems != nil {
		return Spec{}, problems
	}
	if s.Model.NGrams.Orders == 0 {
		s.Model.NGrams = NGrams{} // sizes of a table that there is not
	}
	return s, s.validate(doc.Problem)
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
}

func readHead(doc *strictyaml.Document) (head head, problems strictyaml.Problems) {
	if problems = doc.Pick(&head); problems != nil {
		return head, problems
	}
	wrong := func(path, message, remedy string) {
		problems = append(problems, doc.Problem(path, message, remedy))
	}
	switch known := append([]string{KindTrain}, laterKinds...); {
	case head.Kind == "":
		wrong("kind", "is missing", "write kind: Train")
	case slices.Contains(laterKinds, head.Kind):
		wrong("kind", head.Kind+" jobs are not there yet", "this build runs kind: Train")
	case head.Kind != KindTrain:
		wrong("kind", fmt.Sprintf("%q is not a kind", galley.Clip(head.Kind, 80)), strictyaml.Nearest(head.Kind, known))
	}
	switch {
	case head.APIVersion == "":
		wrong("apiVersion", "is missing", "write apiVersion: "+APIVersion)
	case head.APIVersion != APIVersion:
		wrong("apiVersion", fmt.Sprintf("%q is not a version of this format", galley.Clip(head.APIVersion, 80)), "write apiVersion: "+APIVersion)
	}
	return head, problems
}
