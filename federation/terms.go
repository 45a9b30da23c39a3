package federation

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"galley"
	"galley/internal/strictyaml"
)

// Terms are what a federation's rounds have in common.
type Terms struct {
	Federation string        `json:"federation"`
	Run        string        `json:"run"` // of the federation: its job; no two have the same
	Purpose    string        `json:"purpose"`
	Model      string        `json:"model"`
	Layout     galley.Digest `json:"layout"` // of base and updates
	Rounds     int           `json:"rounds"`
	Attempts   int           `json:"attempts"` // of a round, before the federation fails
	Pause      time.Duration `json:"pause"`    // before the next attempt
	Within     time.Duration `json:"within"`   // from opening to deadline
	Sample     int           `json:"sample"`   // partners asked in a round, 0 for all
	Enough     int           `json:"enough"`   // updates that end a round early, 0 to wait for all
	MinCohort  int           `json:"min_cohort"`
	Strategy   Strategy      `json:"strategy"`
	Mu         float64       `json:"mu,omitempty"`
	Weighting  Weighting     `json:"weighting"`
	MaxShare   float64       `json:"max_share"`          // of one update in the aggregate, by rows
	Clip       float64       `json:"clip,omitempty"`     // L2 norm that updates are scaled down to, 0 for none
	MaxNorm    float64       `json:"max_norm,omitempty"` // beyond which one is refused, 0 for none
	Metrics    []string      `json:"metrics,omitempty"`
	Seed       uint64        `json:"seed"` // of the sampling
	// Recipe is how each partner trains: the recipe of a job file, in JSON. What
	// it says is for the partners' trainers to judge; here it is carried.
	Recipe json.RawMessage `json:"recipe,omitempty"`
}

// Bounds of terms.
const (
	maxAttempts = 1000
	maxWithin   = 30 * 24 * time.Hour
	maxMu       = 1000
	maxRecipe   = 16 << 10
)

// Validate checks terms.
func (t Terms) Validate() error {
	c := &checker{
		place: func(path, message, remedy string) strictyaml.Problem {
			return strictyaml.Problem{Path: path, Message: message, Remedy: remedy}
		},
		has: func(string) bool { return true },
	}
	c.name("federation", t.Federation)
	c.name("run", t.Run)
	c.line("purpose", t.Purpose)
	c.name("model", t.Model)
	if _, err := galley.ParseDigest(string(t.Layout)); err != nil {
		c.wrong("layout", "give the digest of the model's layout", "%q is not a digest", galley.Clip(string(t.Layout), 80))
	}
	c.whole("rounds", int64(t.Rounds), 1, MaxRounds)
	c.whole("attempts", int64(t.Attempts), 1, maxAttempts)
	c.whole("min_cohort", int64(t.MinCohort), 2, MaxPartners)
	for _, n := range []struct {
		path  string
		value int
	}{{"sample", t.Sample}, {"enough", t.Enough}} {
		if n.value != 0 && (n.value < t.MinCohort || n.value > MaxPartners) {
			c.wrong(n.path, fmt.Sprintf("write 0 for all, or a number from min_cohort to %d", MaxPartners), "is %d, and min_cohort %d", n.value, t.MinCohort)
		}
	}
	if t.Within < time.Second || t.Within > maxWithin {
		c.wrong("within", "write a time from 1s to 720h", "is %s", t.Within)
	}
	if t.Pause < 0 || t.Pause > maxWithin {
		c.wrong("pause", "write a time from 0s to 720h", "is %s", t.Pause)
	}
	t.checkStrategy(c)
	c.metrics("metrics", t.Metrics)
	if why := unfit(t.Recipe); why != "" {
		c.wrong("recipe", "give the recipe of a job file, in JSON", "%s", why)
	}
	return c.problems.Clip().AsError("federation")
}

// unfit says why text cannot be a recipe, "" if it can, or is empty: nobody
// trains then by what the terms say.
func unfit(recipe json.RawMessage) string {
	switch {
	case len(recipe) == 0:
		return ""
	case len(recipe) > maxRecipe:
		return fmt.Sprintf("has %d bytes; at most %d are possible", len(recipe), maxRecipe)
	case recipe[0] != '{' || !json.Valid(recipe):
		return "is no JSON object"
	}
	return ""
}

func (t Terms) checkStrategy(c *checker) {
	switch t.Strategy {
	case FedAvg:
		if t.Mu != 0 {
			c.wrong("mu", "write strategy: fedprox, or leave mu out", "belongs to fedprox")
		}
	case FedProx:
		if !(t.Mu > 0 && t.Mu <= maxMu) {
			c.wrong("mu", fmt.Sprintf("write a number above 0, at most %d", maxMu), "is %g", t.Mu)
		}
	default:
		c.wrong("strategy", "write fedavg or fedprox", "%q is not known here", galley.Clip(string(t.Strategy), 80))
	}
	if !slices.Contains([]Weighting{ByRows, Uniform}, t.Weighting) {
		c.wrong("weighting", "write rows or uniform", "%q is not known here", galley.Clip(string(t.Weighting), 80))
	}
	if !(t.MaxShare > 0 && t.MaxShare <= 1) {
		c.wrong("max_share", "write a number above 0, at most 1", "is %g", t.MaxShare)
	}
	if !(t.Clip >= 0 && t.Clip <= maxNorm) {
		c.wrong("clip", "write a number from 0, for none, to 1e12", "is %g", t.Clip)
	}
	if !(t.MaxNorm >= 0 && t.MaxNorm <= maxNorm) {
		c.wrong("max_norm", "write a number from 0, for none, to 1e12", "is %g", t.MaxNorm)
	}
}
