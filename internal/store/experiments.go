package store

import (
	"time"

	"galley/experiment"
	"galley/registry"
)

// An ExperimentRecord is an experiment with what was counted for it.
type ExperimentRecord struct {
	experiment.Experiment
	Totals [][2]experiment.Totals // by stage and arm
	Prod   registry.Alias         // the alias that its model's traffic follows; zero without one
}

// An ExperimentChange is what a change of an experiment commits: with Promote
// the alias moves in the same transaction.
type ExperimentChange struct {
	Experiment experiment.Experiment
	Promote    *registry.Request
	Commit     Commit
}

// An ExperimentCounts are answers of one arm that are not counted yet.
type ExperimentCounts struct {
	Experiment uint32
	Stage      uint8
	Arm        experiment.Arm
	experiment.Counts
}

// Micros is what an outcome's value is counted in: their sums are exact.
const Micros = 1_000_000

// An Outcome is what became of a prediction.
type Outcome struct {
	Prediction experiment.Prediction
	Text       string // as it was sent
	Micros     int64  // its value in millionths; 0 outside of experiments
	At         time.Time
}

// An OutcomeState says what recording an outcome did.
type OutcomeState string

// The states.
const (
	OutcomeRecorded  OutcomeState = "recorded"  // the prediction had none
	OutcomeUnchanged OutcomeState = "unchanged" // the same was there
	OutcomeCorrected OutcomeState = "corrected" // it takes the place of another
)
