// Package store holds what the databases that keep galley's state have in
// common: the types of rows that belong to no package below.
package store

import (
	"encoding/json"
	"time"

	"galley"
	"galley/dataset"
	"galley/trainer"
)

// A Commit is what goes into the same transaction as a change.
type Commit struct {
	By galley.Actor
	At time.Time
	// Action names the change in the audit log, for example "job.cancel".
	// Empty for a change that is no one's decision, such as progress: it
	// leaves no entry.
	Action string
	Detail string
	// Effects are to be performed after the change. They stay pending until
	// EffectDone, also across a crash.
	Effects []Effect
}

// An Effect is something that a change asks for outside its own aggregate.
// Performing it must be idempotent by Aggregate and Sequence: after a crash
// it may be performed again.
type Effect struct {
	Aggregate string          `json:"aggregate"` // "job/ID", "alias/MODEL/NAME"; set by the store
	Sequence  int64           `json:"sequence"`  // increases within an aggregate; set by the store
	Kind      string          `json:"kind"`
	Payload   json.RawMessage `json:"payload,omitempty"`
}

// AliasMoved is the kind of the effect of a moved alias; its payload is a
// registry.Change.
const AliasMoved = "alias-moved"

// A Dataset is a registered version of a dataset.
type Dataset struct {
	Name     string            `json:"name"`
	Version  int               `json:"version"`
	Digest   galley.Digest     `json:"digest"` // of the manifest
	Manifest *dataset.Manifest `json:"manifest"`
	Created  time.Time         `json:"created"`
}

// Ref returns the dataset as "name@n".
func (d Dataset) Ref() string { return galley.Ref{Name: d.Name, Version: d.Version}.String() }

// A JobQuery selects jobs, the newest first.
type JobQuery struct {
	Phases []trainer.Phase // any, if none
	Before string          // jobs older than this one, to go on after a full answer
	Limit  int             // 100 if 0
	// SpecDigest is that of their specs; any, if empty.
	SpecDigest galley.Digest
}

// A Line is one line of a job's log.
type Line struct {
	Number int64     `json:"number"` // from 1, set by the store
	At     time.Time `json:"at"`
	Text   string    `json:"text"`
}

// An AuditQuery selects entries of the audit log, in their order.
type AuditQuery struct {
	After   int64        // the first one after this number
	Actor   galley.Actor // any, if empty
	Subject string       // any, if empty
	Limit   int          // 100 if 0
	Newest  bool         // the last ones instead of the first
}

// Bounds of what a store keeps.
const (
	MaxLine  = 4 << 10 // bytes of a line; longer ones are cut
	MaxLines = 10_000  // lines of a job's log; the oldest go first
	MaxList  = 1000    // rows of one answer
)
