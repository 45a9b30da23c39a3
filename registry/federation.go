package registry

import (
	"cmp"
	"slices"

	"galley"
)

// A Federation is what a federated version was made of: rounds, whose records
// its home keeps, and partners, with the agreements that they took part under.
type Federation struct {
	Run      string              `json:"run"` // its job
	Name     string              `json:"name"`
	Rounds   []FederationRound   `json:"rounds"`   // that are part of the weights, in their order
	Partners []FederationPartner `json:"partners"` // by name and agreement
	// SingleUpdatesSeen says that who ran the coordinator had partners' updates
	// in the clear.
	SingleUpdatesSeen bool `json:"coordinator_saw_single_updates"`
}

// A FederationRound names the record of a round by its digest.
type FederationRound struct {
	Round   int           `json:"round"`
	Attempt int           `json:"attempt"`
	Record  galley.Digest `json:"record"`
}

// A FederationPartner is a partner whose updates are part of a version.
type FederationPartner struct {
	Name      string        `json:"name"`
	Agreement galley.Digest `json:"agreement"`
	Rounds    int           `json:"rounds"` // that its updates are part of
}

// Bounds of what lineage says of a federation.
const (
	maxFederatedRounds   = 10_000
	maxFederatedPartners = 10_000
)

// Sort puts partners into their order.
func (f *Federation) Sort() {
	slices.SortFunc(f.Partners, func(a, b FederationPartner) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Agreement, b.Agreement))
	})
}

// check returns what is wrong with what lineage says of a federation.
func (f *Federation) check(wrong func(string, ...any) error) error {
	if f == nil {
		return nil
	}
	if len(f.Rounds) > maxFederatedRounds || len(f.Partners) > maxFederatedPartners {
		return wrong("%d rounds and %d partners are too many", len(f.Rounds), len(f.Partners))
	}
	if err := galley.CheckName("federation", f.Name); err != nil {
		return err
	}
	if len(f.Run) > maxText {
		return wrong("the federation's run has a name of %d bytes", len(f.Run))
	}
	for _, r := range f.Rounds {
		if _, err := galley.ParseDigest(string(r.Record)); err != nil || r.Round < 1 || r.Attempt < 1 {
			return wrong("round %d, attempt %d, is not named by the digest of its record", r.Round, r.Attempt)
		}
	}
	for _, p := range f.Partners {
		if err := galley.CheckName("partner", p.Name); err != nil {
			return err
		}
		if _, err := galley.ParseDigest(string(p.Agreement)); err != nil || p.Rounds < 1 {
			return wrong("the partner %s has no agreement, or no round", p.Name)
		}
	}
	return nil
}
