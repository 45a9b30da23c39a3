// Package engine is the contract between galley and what trains its models.
//
// A Driver runs one attempt of a job in the process it is called in: it reads
// record files, writes checkpoints and the finished model below a work folder
// of the job's own, and reports events. It never opens galley's home.
// Every driver passes the suite in engine/enginetest.
package engine

import (
	"context"

	"galley"
	"galley/dataset"
	"galley/trainer"
)

// A Driver is one way to make a model.
type Driver interface {
	// Name is what trainer.Spec.Driver calls the driver: "onnx".
	Name() string
	// Version names the driver's runtime, as lineage records it.
	Version() string
	// Train runs one attempt. It begins at the last checkpoint in the work
	// folder, if there is one. The same request gives bit-identical weights,
	// whether or not earlier attempts were killed on the way.
	//
	// When ctx is cancelled, Train stores a checkpoint and returns ctx's
	// error. Any other error is final for the attempt; checkpoints stay.
	Train(ctx context.Context, r Request, report func(Event)) (Result, error)
}

// A Request is all that an attempt gets.
type Request struct {
	Job     string            `json:"job"`
	Attempt int               `json:"attempt"`
	Spec    trainer.Spec      `json:"spec"`
	Data    *dataset.Manifest `json:"data"`
	Records map[string]string `json:"records"`          // split -> path of its record file
	Parent  string            `json:"parent,omitempty"` // folder of the bundle that the job goes on from
	WorkDir string            `json:"work_dir"`         // the job's own, kept between attempts

	// Federated is set where a partner trains its part of a federated round:
	// the spec is of kind Train, see trainer.Local, and Parent has the weights
	// that the round begins with in its graph.
	//
	// A request of kind Federate trains nothing: it makes the version of what the
	// rounds made, whose weights Parent has in its graph. The driver blends the
	// branches anew on the validation split, measures there, and writes the
	// bundle.
	Federated *Federated `json:"federated,omitempty"`

	// Of kind Distill:
	Teachers   []Teacher `json:"teachers,omitempty"`
	Unlabelled *Source   `json:"unlabelled,omitempty"` // what Data.Unlabelled names
	// Cache is a folder that other jobs use as well, for what can be computed
	// again; "" if there is none. What lies in it may be damaged or gone at any
	// time.
	Cache string `json:"cache,omitempty"`
}

// Federated is what a partner's training has beside its recipe. The graph, its
// labels in their order, the weighing of its n-grams and its blend are the
// parent's, whatever the partner's rows are like; rows of other labels are an
// error. The result has the weights of the last step, since a partner's
// validation selects nothing, and metrics of these if there is a validation
// split.
type Federated struct {
	// Mu weighs the proximal term of the loss (FedProx, Li et al., 2020): it
	// gains mu/2·|w-w0|², where w0 are the parent's weights. 0 is for none.
	Mu float64 `json:"mu,omitempty"`
}

// A Teacher is a model that a student learns from.
type Teacher struct {
	Ref    string        `json:"ref"`
	Digest galley.Digest `json:"digest"` // of the version
	Folder string        `json:"folder"` // of its bundle
}

// A Source is a record file beside those of the dataset.
type Source struct {
	Digest galley.Digest `json:"digest"`
	Path   string        `json:"path"`
}

// A Result is a finished model.
type Result struct {
	Bundle    string             `json:"bundle"` // folder: model.onnx, galley.json, tokenizer.json
	Steps     int                `json:"steps"`
	BestStep  int                `json:"best_step"` // the step whose weights the bundle holds
	Metrics   map[string]float64 `json:"metrics"`   // on the validation split, of these weights
	Truncated int                `json:"truncated"` // training texts cut to the model's length
	// Withheld says why the model is not to become the candidate; empty if it
	// is.
	Withheld string `json:"withheld,omitempty"`
}

// An EventKind says what an Event reports.
type EventKind string

// The kinds of events.
const (
	Started      EventKind = "started"      // the attempt knows its steps
	Progress     EventKind = "progress"     // a while of training
	Validated    EventKind = "validated"    // metrics on the validation split
	Checkpointed EventKind = "checkpointed" // a checkpoint is on disk
	Note         EventKind = "note"         // something a reader of the log should know
)

// An Event is a report of a running attempt. Loss is the mean over the steps
// since the last event.
type Event struct {
	Kind     EventKind          `json:"kind"`
	Step     int                `json:"step"`
	Steps    int                `json:"steps,omitempty"`
	Epoch    int                `json:"epoch,omitempty"`
	Loss     float64            `json:"loss,omitempty"`
	LR       float64            `json:"lr,omitempty"`
	GradNorm float64            `json:"grad_norm,omitempty"`
	Rows     int                `json:"rows,omitempty"` // rows a second
	Metrics  map[string]float64 `json:"metrics,omitempty"`
	Message  string             `json:"message,omitempty"`
}

// Drivers are what a build runs attempts with, by name.
type Drivers map[string]Driver

// NewDrivers makes drivers of a list.
func NewDrivers(list ...Driver) Drivers {
	d := Drivers{}
	for _, driver := range list {
		d[driver.Name()] = driver
	}
	return d
}

// For returns the driver that runs attempts of a spec: that of its engine, or
// that of its kind.
func (d Drivers) For(s trainer.Spec) (Driver, error) {
	if driver, ok := d[s.Driver()]; ok {
		return driver, nil
	}
	if s.Driver() != s.Engine {
		return nil, galley.Errorf(galley.Unimplemented, "kind", "%s jobs are not there yet", galley.Clip(s.Kind, 80))
	}
	return nil, galley.Errorf(galley.InvalidArgument, "engine", "%q is not an engine of this build", galley.Clip(s.Engine, 80)).
		WithRemedy("use engine: onnx")
}
