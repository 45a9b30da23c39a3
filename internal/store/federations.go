package store

import (
	"time"

	"galley"
	"galley/federation"
	"galley/trainer"
)

// A Partner is an institution that may take part in federations, by its
// certificate.
type Partner struct {
	Name        string
	Certificate []byte // DER
	Fingerprint galley.Digest
	Enrolled    time.Time
	Revoked     string // why; "" if it may take part
}

// An Agreement is the file of a federation.Agreement as a partner handed it
// over. It is kept for good: updates are signed under it.
type Agreement struct {
	Digest     galley.Digest
	Partner    string
	Federation string
	File       []byte
	Joined     time.Time
}

// A Membership is the present agreement of a partner with a federation, whether
// or not one of that name runs.
type Membership struct {
	Partner    string
	Federation string
	Agreement  federation.Agreement
	Digest     galley.Digest // of the agreement
}

// A Federation is what a job of kind Federate runs.
type Federation struct {
	federation.Federation
	Job        string
	Staged     bool  // what it made is on its way into the registry
	Generation int64 // counts changes; a save expects the one it read
}

// A FederationChange is what a change of a federation commits: with Job its job
// changes in the same transaction.
type FederationChange struct {
	Federation Federation         // its generation is the one that is stored
	Rounds     []federation.Round // that have ended with the change
	Job        *trainer.Job
	JobCommit  Commit
	Commit     Commit
}

// A Round is the record of an attempt at a round that has ended.
type Round struct {
	federation.Round
	Digest galley.Digest // of the record, as it is stored
}

// Bounds of what partners keep in a store.
const (
	MaxPartners    = 1000
	MaxMemberships = 100 // of a partner
	MaxAgreements  = 200 // that a partner has handed over
	MaxRecords     = 32 << 20
)
