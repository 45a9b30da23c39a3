package trainer

import (
	"time"

	"galley"
)

// A Phase is where a job is in its life.
type Phase string

// The phases. Succeeded, Failed and Cancelled are final, but for Resume.
const (
	Queued    Phase = "queued"
	Running   Phase = "running"
	Succeeded Phase = "succeeded"
	Failed    Phase = "failed"
	Cancelled Phase = "cancelled"
)

// Final reports whether nothing more happens by itself.
func (p Phase) Final() bool { return p == Succeeded || p == Failed || p == Cancelled }

// A Job is a spec and how far its training has come. It changes only through
// Step.
type Job struct {
	ID         string             `json:"job"` // also the idempotency key of its effects
	Spec       Spec               `json:"spec"`
	SpecDigest galley.Digest      `json:"spec_digest"`
	Data       string             `json:"data"` // the dataset version it was submitted with, name@n
	DataDigest galley.Digest      `json:"data_digest"`
	Parent     galley.Digest      `json:"parent,omitempty"` // the version (or uploaded graph) that From named
	ParentRef  string             `json:"parent_ref,omitempty"`
	Teachers   []Teacher          `json:"teachers,omitempty"`   // the versions that Spec.Teachers named, in their order
	Unlabelled string             `json:"unlabelled,omitempty"` // the dataset version that Spec.Data.Unlabelled named, name@n
	Owner      galley.Actor       `json:"owner"`
	Tenant     string             `json:"tenant,omitempty"`    // who its resources are counted for
	Steps      []StepState        `json:"steps,omitempty"`     // of a pipeline, in the order of the file
	Within     string             `json:"within,omitempty"`    // the pipeline that the job is a step of
	OnBehalf   string             `json:"on_behalf,omitempty"` // of a pipeline: the tenant whose names alone its steps may change
	Phase      Phase              `json:"phase"`
	Attempts   []Attempt          `json:"attempts"`
	Cancelling bool               `json:"cancelling,omitempty"`
	Preempting string             `json:"preempting,omitempty"` // the job that the attempt makes room for
	QueuedAt   time.Time          `json:"queued_at,omitzero"`   // when it last began to wait
	NotBefore  time.Time          `json:"not_before,omitzero"`  // until then it backs off
	Memory     int64              `json:"memory,omitempty"`     // bytes that an attempt reserves
	Resumed    int                `json:"resumed,omitempty"`    // attempts there were when someone last resumed it
	Progress   Progress           `json:"progress"`
	Metrics    map[string]float64 `json:"metrics,omitempty"` // latest on the validation split
	Versions   []string           `json:"versions,omitempty"`
	Withheld   string             `json:"withheld,omitempty"` // why the version is not to be chosen, if so
	Error      *galley.Error      `json:"error,omitempty"`
	Created    time.Time          `json:"created"`
	Updated    time.Time          `json:"updated"`
	Generation int64              `json:"generation"` // counts changes; a save expects the one it read
}

// A Teacher is a version that a student learns from.
type Teacher struct {
	Ref    string        `json:"ref"` // name@n
	Digest galley.Digest `json:"digest"`
}

// An Attempt is one run of a job in a process of its own.
type Attempt struct {
	Number     int           `json:"number"` // from 1
	Started    time.Time     `json:"started"`
	Ended      *time.Time    `json:"ended,omitempty"`
	From       int           `json:"from"`                 // the step it began at
	Step       int           `json:"step"`                 // the last step it reported
	Checkpoint int           `json:"checkpoint,omitempty"` // the last that it stored
	Outcome    string        `json:"outcome,omitempty"`    // finished, crashed, error, interrupted, preempted
	Cause      Cause         `json:"cause,omitempty"`      // unless it finished
	Error      *galley.Error `json:"error,omitempty"`
}

// Progress is how far the present attempt has come.
type Progress struct {
	Step       int     `json:"step"`
	Steps      int     `json:"steps"`
	Epoch      int     `json:"epoch"`
	Loss       float64 `json:"loss,omitempty"`
	LR         float64 `json:"lr,omitempty"`
	Checkpoint int     `json:"checkpoint"` // step of the last checkpoint
}

// Attempt returns the number of the present or last attempt, 0 before the
// first.
func (j Job) Attempt() int { return len(j.Attempts) }
