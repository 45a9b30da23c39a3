package federation

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"galley"
)

// A Member is a partner that has joined a federation, with what the coordinator
// holds of it.
type Member struct {
	Name      string            `json:"name"`
	Key       ed25519.PublicKey `json:"key"` // of its signatures
	Agreement Agreement         `json:"agreement"`
	Revoked   string            `json:"revoked,omitempty"` // why; "" if it may take part
	Answered  int               `json:"answered"`          // closed rounds that its update is part of
}

// Validate checks a member that wants to join.
func (m Member) Validate() error {
	if err := galley.CheckName("partner", m.Name); err != nil {
		return err
	}
	if len(m.Key) != ed25519.PublicKeySize {
		return galley.Errorf(galley.InvalidArgument, m.Name, "its key has %d bytes, not %d", len(m.Key), ed25519.PublicKeySize)
	}
	if m.Agreement.Partner != m.Name {
		return galley.Errorf(galley.InvalidArgument, m.Name, "its agreement is %q's", galley.Clip(m.Agreement.Partner, 80))
	}
	return m.Agreement.Validate()
}

// barred says why the member cannot be asked to take part, "" if it can. The
// agent decides for itself; asking where the answer is known would only cost
// the round a place.
func (m Member) barred(t Terms, present []string, at time.Time) string {
	if m.Revoked != "" {
		return "its access was revoked: " + m.Revoked
	}
	if !slices.Contains(present, m.Name) {
		return "its agent is not connected"
	}
	o := Offer{
		Protocol: Protocol, Federation: t.Federation, Run: t.Run, Partner: m.Name, Agreement: m.Agreement.Digest(), Purpose: t.Purpose,
		Model: t.Model, MinCohort: t.MinCohort, Mu: t.Mu, Clip: t.Clip, Weighting: t.Weighting, Metrics: t.Metrics, Recipe: t.Recipe, Capabilities: capabilities,
	}
	if err := m.Agreement.Permits(o, m.Answered, at); err != nil {
		return fmt.Sprintf("%s: %s", galley.AsError(err).Subject, galley.AsError(err).Message)
	}
	return ""
}

// entry is the member's place in a cohort.
func (m Member) entry() Entry {
	return Entry{Partner: m.Name, Key: m.Key, Agreement: m.Agreement.Digest(), Rows: m.Agreement.Leaves.Rows, Standing: Offered}
}

// sample chooses n of the members, 0 for all, by a keyed hash of their names:
// each subset is as likely as any, and the choice can be made again by who
// knows the seed.
func sample(members []Member, n int, seed uint64, round, attempt int) []Member {
	if n == 0 || n >= len(members) {
		return members
	}
	type ticket struct {
		m    Member
		draw [sha256.Size]byte
	}
	tickets := make([]ticket, len(members))
	for i, m := range members {
		var key []byte
		for _, v := range []uint64{seed, uint64(round), uint64(attempt)} {
			key = binary.LittleEndian.AppendUint64(key, v)
		}
		tickets[i] = ticket{m, sha256.Sum256(append(key, m.Name...))}
	}
	slices.SortFunc(tickets, func(a, b ticket) int {
		return cmp.Or(bytes.Compare(a.draw[:], b.draw[:]), strings.Compare(a.m.Name, b.m.Name))
	})
	chosen := make([]Member, n)
	for i := range chosen {
		chosen[i] = tickets[i].m
	}
	return chosen
}
