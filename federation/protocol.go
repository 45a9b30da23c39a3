package federation

import (
	"encoding/json"
	"slices"
	"time"

	"galley"
)

// Protocol is the version of the messages between coordinator and agents, and
// part of what an agent signs.
const Protocol = 1

// A Capability is a way of protecting updates that both sides must have. The
// names have their place in offers, agreements and signed headers; this
// version has none of them, and refuses rounds that need one.
type Capability string

// The capabilities that have a name.
const (
	SecureAggregation Capability = "secure-aggregation" // the coordinator sees sums alone
	PrivacyBudget     Capability = "privacy-budget"     // noise, and an account of what it leaves
)

var (
	knownCapabilities = []Capability{PrivacyBudget, SecureAggregation}
	capabilities      = []Capability{} // what this version can do
)

// lacking returns the first of the wanted capabilities that this version does
// not have, "" if it has them all.
func lacking(wanted []Capability) Capability {
	for _, c := range wanted {
		if !slices.Contains(capabilities, c) {
			return c
		}
	}
	return ""
}

// An Offer asks a partner to take part in a round. Its agent checks it against
// the agreement before it trains.
type Offer struct {
	Protocol   int           `json:"protocol"`
	Federation string        `json:"federation"`
	Run        string        `json:"run"` // of the federation; each begins with round 1
	Round      int           `json:"round"`
	Attempt    int           `json:"attempt"` // of the round
	Partner    string        `json:"partner"` // who is asked
	Agreement  galley.Digest `json:"agreement"`
	Purpose    string        `json:"purpose"`
	Model      string        `json:"model"`
	Base       galley.Digest `json:"base"`       // the weights to begin with
	MinCohort  int           `json:"min_cohort"` // fewer updates are never aggregated
	Strategy   Strategy      `json:"strategy"`
	Mu         float64       `json:"mu,omitempty"`   // of FedProx: the loss gains mu/2 |w - base|²
	Clip       float64       `json:"clip,omitempty"` // the update's longest L2 norm, 0 for none
	Weighting  Weighting     `json:"weighting"`
	Metrics    []string      `json:"metrics,omitempty"` // asked for beside the update
	// Recipe is how to train: the recipe of a job file, in JSON. Permits bounds
	// its size; the partner's trainer judges what it says, as that of any file.
	Recipe json.RawMessage `json:"recipe,omitempty"`
	// Within is the time left, counted by the agent's clock from when it has
	// the offer: the clocks of two institutions need not agree.
	Within       time.Duration `json:"within"`
	Capabilities []Capability  `json:"capabilities,omitempty"`
}
