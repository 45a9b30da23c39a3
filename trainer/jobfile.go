package trainer

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"galley/internal/strictyaml"
)

// KindTrain is the kind of a job file that trains one model.
const KindTrain = "Train"

// laterKinds are kinds of the format that this build does not run.
var laterKinds = []string{"Distill", "Quantize", "Federate", "Search", "Eval", "Pipeline"}

// Bounds of a job file.
const (
	maxSets     = 1000 // overrides
	maxProblems = 50   // mistakes that are reported
)

// ParseFile reads a job file of kind Train. sets override its values, each
// path=value as in recipe.epochs=3. What neither says has its default. Every
// mistake is a problem of its own, with its place in the file; a spec that
// comes with problems must not be used.
func ParseFile(data []byte, sets []string) (Spec, strictyaml.Problems) {
	s, problems := parseFile(data, sets)
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(problems[:maxProblems:maxProblems],
			strictyaml.Problem{Path: "file", Message: fmt.Sprintf("has %d more mistakes", more)})
	}
	return s, problems
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
			problems = append(problems, strictyaml.Problem{Path: "--set " + clip(set), Message: "is not path=value",
				Remedy: "write --set recipe.epochs=3"})
			continue
		}
		if err := doc.Set(path, value); err != nil {
			problems = append(problems, strictyaml.Problem{Path: "--set " + clip(set), Message: err.Error()})
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
	for _, p := range doc.Decode(&head) {
		if slices.Contains([]string{"kind", "apiVersion", "task", "from"}, p.Path) {
			problems = append(problems, p)
		}
	}
	if problems != nil {
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
		wrong("kind", fmt.Sprintf("%q is not a kind", clip(head.Kind)), strictyaml.Nearest(head.Kind, known))
	}
	switch {
	case head.APIVersion == "":
		wrong("apiVersion", "is missing", "write apiVersion: "+APIVersion)
	case head.APIVersion != APIVersion:
		wrong("apiVersion", fmt.Sprintf("%q is not a version of this format", clip(head.APIVersion)), "write apiVersion: "+APIVersion)
	}
	return head, problems
}

// YAML writes the job file of s with each value filled in. Reading it gives s
// again.
func (s Spec) YAML() ([]byte, error) {
	var root yaml.Node
	if err := root.Encode(s); err != nil {
		return nil, err
	}
	prune(&root)
	if s.From != "" {
		drop(&root, "model", "layers", "hidden", "heads", "feed_forward", "vocabulary")
	}
	if s.Task == TextMLM {
		drop(&root, "model", "ngrams")
		drop(&root, "recipe", "class_weights", "label_smoothing")
	} else {
		drop(&root, "recipe", "mask_rate")
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// prune removes texts and mappings that are empty: they are not given.
func prune(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return
	}
	kept := n.Content[:0]
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		prune(value)
		if value.Kind == yaml.ScalarNode && value.Tag == "!!str" && value.Value == "" ||
			value.Kind == yaml.MappingNode && len(value.Content) == 0 {
			continue
		}
		kept = append(kept, key, value)
	}
	n.Content = kept
}

// drop removes keys of the mapping at a top-level key: those that the spec's
// task or From leaves no choice about.
func drop(root *yaml.Node, section string, keys ...string) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != section {
			continue
		}
		n := root.Content[i+1]
		kept := n.Content[:0]
		for j := 0; j+1 < len(n.Content); j += 2 {
			if !slices.Contains(keys, n.Content[j].Value) {
				kept = append(kept, n.Content[j], n.Content[j+1])
			}
		}
		n.Content = kept
	}
}

// clip shortens text from outside before it enters a message.
func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
