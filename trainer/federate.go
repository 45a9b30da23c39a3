package trainer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"galley"
	"galley/evals"
)

// Federate is what a job of kind Federate has beside data, recipe and the
// version, From, that its rounds begin with. Partners train by Recipe, each on
// rows of its own; Data measures what they made, and its training rows are not
// used.
//
// The job's own terms are package federation's: what is bounded here is bounded
// there alike.
type Federate struct {
	Federation string   `yaml:"federation" json:"federation,omitempty"` // that partners have joined; the model's name if empty
	Purpose    string   `yaml:"purpose" json:"purpose,omitempty"`       // word for word that of the partners' agreements
	Partners   []string `yaml:"partners" json:"partners,omitempty"`     // who may take part; all who have joined if empty
	Rounds     int      `yaml:"rounds" json:"rounds,omitempty"`
	Strategy   string   `yaml:"strategy" json:"strategy,omitempty"` // fedavg or fedprox
	Mu         float64  `yaml:"mu" json:"mu,omitempty"`             // of fedprox
	MinCohort  int      `yaml:"min_cohort" json:"min_cohort,omitempty"`
	Deadline   string   `yaml:"deadline" json:"deadline,omitempty"` // of a round, from its opening, as 1h30m; see Within
	Sample     int      `yaml:"sample" json:"sample,omitempty"`     // partners asked in a round; 0 for all
	Enough     int      `yaml:"enough" json:"enough,omitempty"`     // updates that end a round early; 0 to wait for all
	Weighting  string   `yaml:"weighting" json:"weighting,omitempty"`
	MaxShare   float64  `yaml:"max_share" json:"max_share,omitempty"` // of one update in the aggregate
	Clip       float64  `yaml:"clip" json:"clip,omitempty"`           // L2 norm that updates are scaled down to; 0 for none
	MaxNorm    float64  `yaml:"max_norm" json:"max_norm,omitempty"`   // beyond which one is refused; 0 for none
	Metrics    []string `yaml:"metrics" json:"metrics,omitempty"`     // that partners tell beside their update
	Attempts   int      `yaml:"attempts" json:"attempts,omitempty"`   // at a round, before the job fails
	Pause      string   `yaml:"pause" json:"pause,omitempty"`         // before a round is tried again; see Pausing
}

// Bounds of a job of kind Federate, those of package federation.
const (
	maxPartners = 500
	maxRounds   = 10_000
	maxPurpose  = 200
	maxMu       = 1000
	maxNorm     = 1e12
	maxTries    = 1000
	maxWithin   = 30 * 24 * time.Hour
)

// Within is Deadline, 0 if that is no duration.
func (f Federate) Within() time.Duration { return duration(f.Deadline) }

// Pausing is Pause, 0 if that is no duration.
func (f Federate) Pausing() time.Duration { return duration(f.Pause) }

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0
	}
	return d
}

// defaultFederate returns what a job file of kind Federate leaves out, but for
// Federation.
func defaultFederate() Spec {
	s := Spec{
		APIVersion: APIVersion,
		Kind:       KindFederate,
		Task:       TextClassification,
		Federate: Federate{
			Rounds: 10, Strategy: "fedavg", MinCohort: 2, Deadline: "1h", Weighting: "rows", MaxShare: 0.5,
			Attempts: 3, Pause: "1m",
		},
		Recipe: defaults(TextClassification, true).Recipe,
		Engine: "onnx",
	}
	s.Recipe.Epochs = 1
	return s
}

// LocalRecipe is how partners train, as their offers have it: JSON of Recipe.
func (s Spec) LocalRecipe() (json.RawMessage, error) { return json.Marshal(s.Recipe) }

// maxRecipe bounds the text of a recipe that comes from a coordinator.
const maxRecipe = 16 << 10

// Local returns the spec of kind Train by which a partner trains in a round:
// from the round's model, on a dataset of the partner's own, by the recipe that
// the coordinator offers. What it offers is checked as a job file is; a mistake
// is an error that names the field. Rounds count from 1: each shuffles, and
// drops out, in its own way. Who runs it sets its resources.
func Local(model, data string, round int, recipe []byte) (Spec, error) {
	s := defaults(TextClassification, true)
	s.Name, s.From, s.Data.Dataset = model, model, data
	wrong := func(format string, args ...any) (Spec, error) {
		return Spec{}, galley.Errorf(galley.InvalidArgument, "recipe", format, args...).
			WithRemedy("nothing is trained; ask the coordinator for another recipe")
	}
	if len(recipe) > maxRecipe {
		return wrong("has %d bytes; at most %d are possible", len(recipe), maxRecipe)
	}
	s.Recipe = Recipe{} // the coordinator says all of it, or it is a mistake
	decoder := json.NewDecoder(bytes.NewReader(recipe))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s.Recipe); err != nil {
		return wrong("cannot be read: %s", galley.Clip(err.Error(), 200))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return wrong("goes on after its end")
	}
	s.Recipe.Seed += uint64(round) * 0x9e3779b97f4a7c15 // odd, so that each round has another
	if err := s.Validate(); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// federate checks what only jobs of kind Federate have.
func (c *checker) federate(s Spec) {
	switch {
	case s.From == "":
		c.wrong("from", "name a version, as in from: news-topic@3", "is missing")
	case strings.HasSuffix(s.From, ".onnx"):
		c.wrong("from", "train a version from it first, with kind: "+KindTrain, "names a file")
	}
	if s.Task == TextClassification {
		c.recipe(s)
	} else {
		c.wrong("task", "write task: "+TextClassification+", or leave it out", "%s models are not federated", galley.Clip(s.Task, 80))
	}
	c.data(s.Data)
	c.choice("engine", s.Engine, []string{"onnx"}, nil)
	c.coded("federation", galley.CheckName("federation", s.Federation))
	if p := s.Purpose; p == "" || len(p) > maxPurpose || !utf8.ValidString(p) || strings.TrimSpace(p) != p ||
		strings.ContainsFunc(p, func(r rune) bool { return r < ' ' }) {
		message := fmt.Sprintf("%q is no line of text", galley.Clip(p, 80))
		if p == "" {
			message = "is missing"
		}
		c.wrong("purpose", fmt.Sprintf("write what the model is for, in one line of at most %d bytes, as partners have it in their agreements", maxPurpose), "%s", message)
	}
	c.partners(s.Federate)
	c.terms(s.Federate)
}

func (c *checker) partners(f Federate) {
	if n := len(f.Partners); n > maxPartners {
		c.wrong("partners", fmt.Sprintf("name at most %d", maxPartners), "names %d", n)
		return
	}
	for i, p := range f.Partners {
		c.coded("partners", galley.CheckName("partners", p))
		if slices.Contains(f.Partners[:i], p) {
			c.wrong("partners", "name it once", "%s is named twice", galley.Clip(p, 80))
		}
	}
	if n := len(f.Partners); n > 0 && n < f.MinCohort {
		c.wrong("partners", "name more of them, or leave the list out: all who have joined may take part", "names %d, and a round needs %d", n, f.MinCohort)
	}
	for _, n := range []struct {
		path  string
		value int
	}{{"sample", f.Sample}, {"enough", f.Enough}} {
		if n.value != 0 && (n.value < f.MinCohort || n.value > maxPartners) {
			c.wrong(n.path, fmt.Sprintf("write 0 for all, or a number from min_cohort to %d", maxPartners), "is %d, and min_cohort %d", n.value, f.MinCohort)
		}
	}
	if f.Sample > 0 && f.Enough > f.Sample {
		c.wrong("enough", "write at most as many as sample", "is %d, and only %d are asked", f.Enough, f.Sample)
	}
}

func (c *checker) terms(f Federate) {
	c.choice("strategy", f.Strategy, []string{"fedavg", "fedprox"}, nil)
	switch {
	case f.Strategy == "fedprox":
		c.real(real{"mu", f.Mu, 0, maxMu, true})
	case f.Mu != 0:
		c.wrong("mu", "write strategy: fedprox, or leave mu out", "belongs to fedprox")
	}
	c.choice("weighting", f.Weighting, []string{"rows", "uniform"}, nil)
	known := []string{evals.Accuracy, evals.MacroF1, evals.Loss}
	if len(f.Metrics) > len(known) {
		c.wrong("metrics", "name each once", "names %d; there are %d", len(f.Metrics), len(known))
		return
	}
	for i, m := range f.Metrics {
		c.choice("metrics", m, known, nil)
		if slices.Contains(f.Metrics[:i], m) {
			c.wrong("metrics", "name it once", "%s is named twice", galley.Clip(m, 80))
		}
	}
	c.duration("deadline", f.Deadline, time.Second)
	c.duration("pause", f.Pause, 0)
}

func (c *checker) duration(path, text string, least time.Duration) {
	remedy := fmt.Sprintf("write a time from %s to 720h, as in 90s, 30m or 2h", least)
	switch d, err := time.ParseDuration(text); {
	case err != nil:
		c.wrong(path, remedy, "%q is not a time", galley.Clip(text, 80))
	case d < least || d > maxWithin:
		c.wrong(path, remedy, "%s is out of range", galley.Clip(text, 80))
	}
}

// federateRanges are the numbers that only a spec of kind Federate has.
func federateRanges(f Federate) ([]whole, []real) {
	return []whole{
			{"rounds", f.Rounds, 1, maxRounds}, {"min_cohort", f.MinCohort, 2, maxPartners}, {"attempts", f.Attempts, 1, maxTries},
		}, []real{
			{"max_share", f.MaxShare, 0, 1, true}, {"clip", f.Clip, 0, maxNorm, false}, {"max_norm", f.MaxNorm, 0, maxNorm, false},
		}
}
