package trainer

import (
	"regexp"
	"slices"
	"strings"

	"galley"
)

// MaxSteps bounds the steps of a pipeline.
const MaxSteps = 100

// Pipeline is what a file of kind Pipeline has beside its name.
type Pipeline struct {
	Steps []PipelineStep `yaml:"steps" json:"steps,omitempty"`
}

// A PipelineStep is one step of a pipeline: a job, a measurement or a
// promotion. Wherever its spec names a version it may name another step's
// result, as ${pretrain.version}; it waits for that step, too.
type PipelineStep struct {
	ID    string   `yaml:"id" json:"id"`
	Needs []string `yaml:"needs" json:"needs,omitempty"` // steps that have to succeed first
	Spec  Spec     `yaml:"spec" json:"spec"`
}

// Measure is what the kinds Eval and Promote have beside data: they ask
// something of a version, and make none.
type Measure struct {
	Version string `yaml:"version" json:"version,omitempty"` // that is measured or promoted
	Against string `yaml:"against" json:"against,omitempty"` // another one on the same rows
	Alias   string `yaml:"alias" json:"alias,omitempty"`     // that is to point at the version
}

// makesVersion reports whether the spec's result is a version.
func (s Spec) makesVersion() bool { return slices.Contains(modelKinds, s.Kind) }

// Requires are the steps that have to succeed first: those that the step names
// and those whose results its spec names.
func (s PipelineStep) Requires() []string {
	out := slices.Clone(s.Needs)
	s.Spec.eachVersion(func(_ string, v *string) {
		if id, ok := reference(*v); ok && !slices.Contains(out, id) {
			out = append(out, id)
		}
	})
	return out
}

// Resolve returns the step's spec with the versions of other steps in the
// place of references to them.
func (s PipelineStep) Resolve(versions map[string]string) (Spec, error) {
	spec := s.Spec.replaced(func(id string) string { return versions[id] })
	return spec, spec.Validate()
}

// replaced is a copy of the spec whose references are replaced.
func (s Spec) replaced(by func(id string) string) Spec {
	s.Teachers = slices.Clone(s.Teachers)
	s.eachVersion(func(_ string, v *string) {
		if id, ok := reference(*v); ok {
			*v = by(id)
		}
	})
	return s
}

// eachVersion calls f with each place of the spec that names a version.
func (s *Spec) eachVersion(f func(path string, v *string)) {
	f("from", &s.From)
	f("student.from", &s.Student.From)
	for i := range s.Teachers {
		f("teachers", &s.Teachers[i])
	}
	f("version", &s.Version)
	f("against", &s.Against)
}

var (
	// stepName is the id of a step; it has no dots, so that ${id.version} is
	// read in one way.
	stepName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	stepRef  = regexp.MustCompile(`^\$\{([^{}]*)\.version\}$`)
)

// reference reads ${id.version}.
func reference(v string) (id string, ok bool) {
	m := stepRef.FindStringSubmatch(v)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// standIn is a version in the place of a reference while a spec is checked
// before there is any.
func standIn(id string) string { return id + "@1073741824" }

// unstood writes references again in a message about a spec with stand-ins.
func unstood(message string) string {
	return standsIn.ReplaceAllString(message, "$${$1.version}")
}

var standsIn = regexp.MustCompile(`([a-z0-9][a-z0-9_-]*)@1073741824`)

// defaultMeasure returns what a step of kind Eval or Promote leaves out.
func defaultMeasure(kind string) Spec {
	s := Spec{APIVersion: APIVersion, Kind: kind}
	if kind == KindPromote {
		s.Alias = "prod"
	}
	return s
}

// measure checks what only steps of kind Eval and Promote have.
func (c *checker) measure(s Spec) {
	if s.Version == "" {
		c.wrong("version", "name a version or a step's result, as in version: ${train.version}", "is missing")
	}
	for _, f := range []struct{ path, value string }{{"version", s.Version}, {"against", s.Against}} {
		if _, err := galley.ParseRef(f.value); f.value != "" && err != nil {
			c.wrong(f.path, "write a version, as in news-topic@3, news-topic:prod or ${train.version}", "%q is not a model", galley.Clip(f.value, 80))
		}
	}
	if s.Kind == KindPromote {
		c.coded("alias", galley.CheckName("alias", s.Alias))
	}
	d := s.Data
	if d.Dataset != "" {
		c.coded("data.dataset", checkDataset(d.Dataset))
	} else if d.Split != "" {
		c.wrong("data.split", "write data: {dataset: NAME, split: "+galley.Clip(d.Split, 40)+"}", "goes with data.dataset only")
	}
	if d.Split != "" {
		c.choice("data.split", d.Split, []string{"train", "valid", "test"}, nil)
	}
}

// tree is where the steps of a pipeline stand to each other: of each the steps
// that it requires. Steps that are not there are left out.
func (p Pipeline) tree() map[string][]string {
	out := map[string][]string{}
	for _, s := range p.Steps {
		out[s.ID] = nil
	}
	for _, s := range p.Steps {
		for _, id := range s.Requires() {
			if _, there := out[id]; there {
				out[s.ID] = append(out[s.ID], id)
			}
		}
	}
	return out
}

// cycle finds steps that wait for each other, the first one again at the end;
// nil if there are none.
func (p Pipeline) cycle() []string {
	requires := p.tree()
	const under, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(id string) []string
	visit = func(id string) []string {
		switch state[id] {
		case done:
			return nil
		case under:
			return append(slices.Clone(path[slices.Index(path, id):]), id)
		}
		state[id] = under
		path = append(path, id)
		for _, next := range requires[id] {
			if found := visit(next); found != nil {
				return found
			}
		}
		path = path[:len(path)-1]
		state[id] = done
		return nil
	}
	for _, s := range p.Steps {
		if found := visit(s.ID); found != nil {
			return found
		}
	}
	return nil
}

// arrows writes a cycle.
func arrows(ids []string) string { return strings.Join(ids, " waits for ") }
