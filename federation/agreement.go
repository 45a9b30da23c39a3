package federation

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	"galley"
)

// An Agreement is what a partner permits. It is the partner's own file, which
// its agent enforces; the digest is part of each signed update, so that what a
// model was made under can be shown later.
type Agreement struct {
	Federation string       `yaml:"federation" json:"federation"`
	Partner    string       `yaml:"partner" json:"partner"`
	Purpose    string       `yaml:"purpose" json:"purpose"`
	Models     []string     `yaml:"models" json:"models"`
	Rounds     int          `yaml:"rounds" json:"rounds"`         // that the partner answers at most
	MinCohort  int          `yaml:"min_cohort" json:"min_cohort"` // partners in an aggregate at least, itself included
	Expires    time.Time    `yaml:"-" json:"expires"`
	Leaves     Leaves       `yaml:"leaves" json:"leaves"`
	Clip       float64      `yaml:"clip" json:"clip"`         // longest L2 norm of an update, 0 for none
	Requires   []Capability `yaml:"requires" json:"requires"` // no round without these
}

// Leaves says what may leave the partner; all else stays.
type Leaves struct {
	Weights bool     `yaml:"weights" json:"weights"`
	Rows    RowCount `yaml:"rows" json:"rows"`
	Metrics []string `yaml:"metrics" json:"metrics"`
}

// RowCount says how the number of rows trained on is told.
type RowCount struct {
	Report string `yaml:"report" json:"report"` // exact, rounded or hidden
	Unit   int64  `yaml:"unit" json:"unit"`     // rounded: to multiples of it
	Most   int64  `yaml:"most" json:"most"`     // declared: no count is above it
}

// How a number of rows is told.
const (
	Exact   = "exact"
	Rounded = "rounded"
	Hidden  = "hidden" // told as 0; such a partner joins rounds with uniform weights alone
)

// Digest names the agreement by what it says; how the file is written has no
// part in it, nor has the order of its lists.
func (a Agreement) Digest() galley.Digest {
	a.Expires = a.Expires.UTC()
	a.Models, a.Leaves.Metrics, a.Requires = sorted(a.Models), sorted(a.Leaves.Metrics), sorted(a.Requires)
	// A struct of strings, numbers and times is always JSON.
	text, _ := json.Marshal(a)
	return galley.DigestBytes(append([]byte("galley agreement v1\n"), text...))
}

// sorted returns a sorted copy, never nil.
func sorted[T ~string](list []T) []T {
	list = append([]T{}, list...)
	slices.Sort(list)
	return list
}

// Told returns the number of rows as the agreement lets it be told.
func (a Agreement) Told(rows int64) int64 {
	switch a.Leaves.Rows.Report {
	case Hidden:
		return 0
	case Rounded:
		unit := a.Leaves.Rows.Unit
		most := a.Leaves.Rows.Most / unit * unit
		return min(max(unit, (min(rows, most)+unit/2)/unit*unit), most)
	default:
		return min(rows, a.Leaves.Rows.Most)
	}
}

// tells reports whether rows is a number that Told can have given.
func (a Agreement) tells(rows int64) bool {
	switch r := a.Leaves.Rows; r.Report {
	case Hidden:
		return rows == 0
	case Rounded:
		return rows > 0 && rows <= r.Most && r.Unit > 0 && rows%r.Unit == 0
	default:
		return rows > 0 && rows <= r.Most
	}
}

// Bound returns the longest norm that an update for the offer may have: the
// offer can narrow what the agreement says, never widen it. 0 is no bound.
func (a Agreement) Bound(o Offer) float64 {
	switch {
	case !(o.Clip > 0): // none, or none that means anything
		return a.Clip
	case a.Clip == 0:
		return o.Clip
	default:
		return math.Min(a.Clip, o.Clip)
	}
}

// Permits returns what the agreement forbids of an offer, nil if it allows it.
// answered is the number of other rounds that the agent has answered already.
func (a Agreement) Permits(o Offer, answered int, now time.Time) error {
	if o.Protocol != Protocol {
		return galley.Errorf(galley.Unimplemented, "protocol", "the coordinator speaks version %d, this agent %d", o.Protocol, Protocol).
			WithRemedy("run the same release of galley on both sides")
	}
	if !(o.Clip >= 0 && o.Clip <= maxNorm) || !(o.Mu >= 0 && o.Mu <= maxMu) || len(o.Metrics) > maxMetrics {
		return galley.Errorf(galley.InvalidArgument, "offer", "has a clip of %g, a mu of %g and %d metrics", o.Clip, o.Mu, len(o.Metrics)).
			WithRemedy("nothing is sent; ask the coordinator what happened")
	}
	if why := unfit(o.Recipe); why != "" {
		return galley.Errorf(galley.InvalidArgument, "offer.recipe", "%s", why).
			WithRemedy("nothing is sent; ask the coordinator what happened")
	}
	forbid := func(field, remedy, format string, args ...any) error {
		e := galley.Errorf(galley.PermissionDenied, "agreement."+field, format, args...)
		e.Remedy = remedy
		return e
	}
	const amend = "nothing is sent; amend the agreement, or ask the coordinator for other terms"
	switch digest := a.Digest(); {
	case o.Federation != a.Federation:
		return forbid("federation", amend, "is for %q, not for %q", a.Federation, galley.Clip(o.Federation, 80))
	case o.Partner != a.Partner:
		return forbid("partner", amend, "is %q's, and the offer is for %q", a.Partner, galley.Clip(o.Partner, 80))
	case o.Agreement != digest:
		return forbid("digest", "let the coordinator have the present file", "is %s, and the coordinator holds another: %s", digest.Short(), o.Agreement.Short())
	case !now.Before(a.Expires):
		return forbid("expires", "write a new agreement", "has ended at %s", a.Expires.UTC().Format(time.RFC3339))
	case o.Purpose != a.Purpose:
		return forbid("purpose", amend, "is %q, not %q", a.Purpose, galley.Clip(o.Purpose, 80))
	case !slices.Contains(a.Models, o.Model):
		return forbid("models", amend, "does not name %q", galley.Clip(o.Model, 80))
	case answered >= a.Rounds:
		return forbid("rounds", amend, "allows %d rounds, and as many were answered", a.Rounds)
	case o.MinCohort < a.MinCohort:
		return forbid("min_cohort", amend, "wants %d partners in an aggregate, and the round would do with %d", a.MinCohort, o.MinCohort)
	case !a.Leaves.Weights:
		return forbid("leaves.weights", amend, "lets no weights leave")
	case o.Weighting == ByRows && a.Leaves.Rows.Report == Hidden:
		return forbid("leaves.rows", amend, "hides the number of rows, and the round weighs by it")
	}
	for _, m := range o.Metrics {
		if !slices.Contains(a.Leaves.Metrics, m) {
			return forbid("leaves.metrics", amend, "does not let %q leave", galley.Clip(m, 80))
		}
	}
	for _, c := range a.Requires {
		if !slices.Contains(o.Capabilities, c) {
			return forbid("requires", amend, "wants %s, and the round goes without", c)
		}
	}
	if c := lacking(o.Capabilities); c != "" {
		return galley.Errorf(galley.Unimplemented, "capabilities", "the round needs %q, which this agent does not have", galley.Clip(string(c), 80)).
			WithRemedy("run the same release of galley on both sides")
	}
	return nil
}
