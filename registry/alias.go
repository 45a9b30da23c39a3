package registry

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"galley"
)

// Prod is the alias that traffic follows.
const Prod = "prod"

// maxPrevious is how far back an alias can be rolled.
const maxPrevious = 100

// An Alias points at one version of a model.
type Alias struct {
	Model      string `json:"model"`
	Name       string `json:"alias"`
	Target     int    `json:"target"`             // a version's number; 0 before the first promotion
	Generation int64  `json:"generation"`         // counts moves
	Previous   []int  `json:"previous,omitempty"` // the targets that rollbacks return to, the next one last
}

// A Move says how an alias changed its target.
type Move string

// The moves.
const (
	Promoted   Move = "promote"
	Forced     Move = "promote.forced" // against the gate, or without asking it
	RolledBack Move = "rollback"
)

// A Change is one move of an alias.
type Change struct {
	Model      string       `json:"model"`
	Alias      string       `json:"alias"`
	Move       Move         `json:"move"`
	From       int          `json:"from"` // 0 for the first promotion
	To         int          `json:"to"`
	Generation int64        `json:"generation"` // after the move
	By         galley.Actor `json:"by"`
	At         time.Time    `json:"at"`
	Reason     string       `json:"reason,omitempty"`
	// Report is the comparison with the version before that the gate judged
	// by; empty where there was none.
	Report galley.Digest `json:"report,omitempty"`
}

// AnyGeneration is the expectation of a request that does not care whether
// others moved the alias meanwhile.
const AnyGeneration int64 = -1

// A Request asks for a move.
type Request struct {
	Model  string
	Alias  string
	Target int   // of a promotion
	Expect int64 // the generation the request is based on, or AnyGeneration; 0: no such alias yet
	By     galley.Actor
	At     time.Time
	Reason string
	Force  bool          // a promotion that does not ask the gate; it needs a reason
	Report galley.Digest // see Change
}

// Check checks what can be checked of a request without the alias.
func (r Request) Check() error {
	if err := galley.CheckName("model", r.Model); err != nil {
		return err
	}
	if err := galley.CheckName("alias", r.Alias); err != nil {
		return err
	}
	if strings.Trim(r.Alias, "0123456789") == "" {
		return galley.Errorf(galley.InvalidArgument, "alias", "%q would read as a version number", r.Alias).
			WithRemedy("choose a word, like prod")
	}
	if len(r.Reason) > maxText || !utf8.ValidString(r.Reason) {
		return galley.Errorf(galley.InvalidArgument, "reason", "is longer than %d bytes or not UTF-8", maxText)
	}
	if r.Force && strings.TrimSpace(r.Reason) == "" {
		return galley.Errorf(galley.InvalidArgument, "reason", "a forced promotion has none").
			WithRemedy("say why, for the record: --reason TEXT")
	}
	if r.Report != "" {
		if _, err := galley.ParseDigest(string(r.Report)); err != nil {
			return err
		}
	}
	if r.Expect < AnyGeneration {
		return galley.Errorf(galley.InvalidArgument, "generation", "%d cannot be expected", r.Expect)
	}
	return nil
}

// Promote points the alias at the request's target. Promoting what the alias
// already points at changes nothing: the change returned has From equal to To
// and the present generation.
func Promote(a Alias, r Request) (Alias, Change, error) {
	if err := expect(a, r); err != nil {
		return a, Change{}, err
	}
	if r.Target < 1 {
		return a, Change{}, galley.Errorf(galley.InvalidArgument, "version", "%d is not a version number", r.Target)
	}
	move := Promoted
	if r.Force {
		move = Forced
	}
	if a.Target == r.Target {
		return a, change(a, r, move, a.Target), nil
	}
	from := a.Target
	a.Previous = slices.Clone(a.Previous)
	if from != 0 {
		a.Previous = append(a.Previous, from)
		a.Previous = a.Previous[max(0, len(a.Previous)-maxPrevious):]
	}
	a.Target = r.Target
	a.Generation++
	return a, change(a, r, move, from), nil
}

// Rollback points the alias back at the version before: the one it was
// promoted away from. Rolling back again goes further back.
func Rollback(a Alias, r Request) (Alias, Change, error) {
	if err := expect(a, r); err != nil {
		return a, Change{}, err
	}
	if len(a.Previous) == 0 {
		return a, Change{}, galley.Errorf(galley.FailedPrecondition, r.Model+":"+r.Alias, "has no version before %s to roll back to",
			galley.Ref{Name: r.Model, Version: a.Target}).WithRemedy("promote the version you want: galley models promote %s@N %s", r.Model, r.Alias)
	}
	from, last := a.Target, len(a.Previous)-1
	a.Target = a.Previous[last]
	a.Previous = slices.Clone(a.Previous[:last])
	a.Generation++
	return a, change(a, r, RolledBack, from), nil
}

func expect(a Alias, r Request) error {
	if r.Expect == AnyGeneration || r.Expect == a.Generation {
		return nil
	}
	return galley.Errorf(galley.Aborted, r.Model+":"+r.Alias, "is at generation %d, not %d: someone moved it meanwhile", a.Generation, r.Expect).
		WithRemedy("look at it again with galley models history %s, then repeat with --expect %d", r.Model, a.Generation)
}

func change(a Alias, r Request, m Move, from int) Change {
	return Change{
		Model: r.Model, Alias: r.Alias, Move: m,
		From: from, To: a.Target, Generation: a.Generation,
		By: r.By, At: r.At.UTC(), Reason: r.Reason, Report: r.Report,
	}
}
