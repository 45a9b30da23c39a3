package registry

import (
	"time"

	"galley"
	"galley/evals"
)

// A ReportRef is an evaluation of a version.
type ReportRef struct {
	Digest  galley.Digest      `json:"digest"`
	Dataset string             `json:"dataset"` // name@n, or the name of a file
	Split   string             `json:"split,omitempty"`
	N       int                `json:"n"`
	Metrics map[string]float64 `json:"metrics"`
	Passed  bool               `json:"passed"` // its gate
	// Against is the version that the report compares with on the same rows,
	// if it is a comparison.
	Against galley.Digest `json:"against,omitempty"`
	Created time.Time     `json:"created"`
}

// A Stamp says who changed something and when.
type Stamp struct {
	By galley.Actor
	At time.Time
}

// Summarise returns what a version keeps of a report with this digest.
func Summarise(r *evals.Report, digest galley.Digest, at time.Time) ReportRef {
	ref := ReportRef{
		Digest: digest, Dataset: r.Dataset.Name, Split: r.Dataset.Split,
		N: r.N, Metrics: make(map[string]float64, len(r.Metrics)), Passed: r.Gate.Passed, Created: at.UTC(),
	}
	if r.Dataset.Version > 0 {
		ref.Dataset = galley.Ref{Name: r.Dataset.Name, Version: r.Dataset.Version}.String()
	}
	for _, b := range r.Baselines {
		if b.Model != "" {
			ref.Against = b.Model
		}
	}
	for name, m := range r.Metrics {
		ref.Metrics[name] = m.Value
	}
	return ref
}
