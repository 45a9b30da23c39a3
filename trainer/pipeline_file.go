package trainer

import (
	"fmt"
	"slices"
	"strings"

	"galley"
	"galley/internal/strictyaml"
)

// A pipelineFile is a job file of kind Pipeline, whose steps are read by their
// own kinds.
type pipelineFile struct {
	APIVersion string     `yaml:"apiVersion"`
	Kind       string     `yaml:"kind"`
	Name       string     `yaml:"name"`
	Steps      []stepFile `yaml:"steps"`
}

type stepFile struct {
	ID    string              `yaml:"id"`
	Needs []string            `yaml:"needs"`
	Spec  strictyaml.Document `yaml:"spec"`
}

// parsePipeline reads a job file of kind Pipeline.
func parsePipeline(doc *strictyaml.Document) (Spec, strictyaml.Problems) {
	var f pipelineFile
	if problems := doc.Decode(&f); problems != nil {
		return Spec{}, problems
	}
	s := Spec{APIVersion: f.APIVersion, Kind: f.Kind, Name: f.Name}
	var problems strictyaml.Problems
	for i, step := range f.Steps {
		if !doc.Has(fmt.Sprintf("steps[%d].spec", i)) {
			problems = append(problems, doc.Problem(fmt.Sprintf("steps[%d].spec", i), "is missing", "write what the step does, as in spec: {kind: Train, …}"))
			continue
		}
		if len(problems) > strictyaml.MaxProblems {
			break
		}
		spec, wrong := parseStep(&step.Spec)
		problems = append(problems, wrong...)
		s.Steps = append(s.Steps, PipelineStep{ID: step.ID, Needs: step.Needs, Spec: spec})
	}
	if problems != nil {
		return Spec{}, problems
	}
	return s, s.validate(doc.Problem, doc.Has)
}

// parseStep reads the spec of a step, which is checked with the others.
func parseStep(doc *strictyaml.Document) (Spec, strictyaml.Problems) {
	h, problems := readHead(doc, stepKinds)
	if problems != nil {
		return Spec{}, problems
	}
	return h.decode(doc)
}

// pipeline checks the steps of a pipeline, each by its own kind's rules.
func (c *checker) pipeline(s Spec, given func(path string) bool) {
	if n := len(s.Steps); n == 0 || n > MaxSteps {
		message := "is missing"
		if n > 0 {
			message = fmt.Sprintf("has %d steps", n)
		}
		c.wrong("steps", fmt.Sprintf("write 1 to %d, as in steps: [{id: train, spec: {kind: Train, …}}]", MaxSteps), "%s", message)
		return
	}
	ids := make([]string, len(s.Steps))
	for i, step := range s.Steps {
		ids[i] = step.ID
	}
	for i, step := range s.Steps {
		at := "steps." + step.ID
		if bad := c.stepID(i, step.ID, ids); bad {
			at = fmt.Sprintf("steps[%d]", i)
		}
		if many := len(step.Needs); many > MaxSteps {
			c.wrong(at+".needs", fmt.Sprintf("name at most %d", MaxSteps), "names %d steps", many)
			return
		}
		c.stepNeeds(at, step, ids)
		c.step(at+".spec.", step.Spec, given)
		if len(step.Spec.Teachers) > MaxTeachers {
			return // which is a problem of its own
		}
		c.references(at+".spec.", step.Spec, s.Steps, ids)
	}
	if found := s.cycle(); found != nil {
		c.wrong("steps."+found[0], "let one of them do without the other", "waits for itself: %s", galley.Clip(arrows(found), 500))
	}
}

// stepID checks the id of a step; bad says that it cannot name the step.
func (c *checker) stepID(i int, id string, ids []string) (bad bool) {
	at := fmt.Sprintf("steps[%d].id", i)
	switch {
	case id == "":
		c.wrong(at, "give each step an id, as in id: train", "is missing")
	case !stepName.MatchString(id):
		c.wrong(at, "use 1 to 63 lower-case letters, digits, dashes or underscores, beginning with a letter or digit", "%q is not an id", galley.Clip(id, 80))
	case slices.Contains(ids[:i], id):
		c.wrong(at, "give each step an id of its own", "%s is the id of another step", id)
	default:
		return false
	}
	return true
}

func (c *checker) stepNeeds(at string, s PipelineStep, ids []string) {
	for i, need := range s.Needs {
		switch {
		case !slices.Contains(ids, need):
			c.wrong(at+".needs", strictyaml.Nearest(need, ids), "%q is not a step", galley.Clip(need, 80))
		case slices.Contains(s.Needs[:i], need):
			c.wrong(at+".needs", "name it once", "%s is named twice", need)
		}
	}
}

// references checks what a step's spec names of other steps.
func (c *checker) references(at string, s Spec, steps []PipelineStep, ids []string) {
	s.eachVersion(func(path string, v *string) {
		id, ok := reference(*v)
		switch i := slices.Index(ids, id); {
		case !ok && strings.Contains(*v, "${"):
			c.wrong(at+path, "write ${STEP.version} and nothing beside it", "%q is not a step's result", galley.Clip(*v, 80))
		case !ok:
		case i < 0:
			c.wrong(at+path, strictyaml.Nearest(id, ids), "%q is not a step", galley.Clip(id, 80))
		case !steps[i].Spec.makesVersion():
			c.wrong(at+path, "name the step that makes the version", "%s is of kind %s, and makes no version", id, steps[i].Spec.Kind)
		}
	})
}

// step checks the spec of a step by the rules of its kind, with versions that
// could be in the place of references.
func (c *checker) step(at string, s Spec, given func(path string) bool) {
	if !slices.Contains(stepKinds, s.Kind) {
		c.wrong(at+"kind", "", "%q is not the kind of a step", galley.Clip(s.Kind, 80))
		return
	}
	place := func(path, message, remedy string) strictyaml.Problem {
		return c.place(at+path, unstood(message), remedy)
	}
	s = s.replaced(func(id string) string {
		if !stepName.MatchString(id) {
			return standIn("step") // that there is none is a problem of its own
		}
		return standIn(id)
	})
	s.eachVersion(func(_ string, v *string) {
		if strings.Contains(*v, "${") {
			*v = standIn("step")
		}
	})
	c.problems = append(c.problems, s.validate(place, func(path string) bool { return given(at + path) })...)
}
