package evals

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"galley"
)

// maxReport bounds a report read from outside.
const maxReport = 16 << 20

// A Report is everything that one evaluation found. The caller of Run fills
// in what Run cannot know: Ref, Model, Dataset and Split.
type Report struct {
	Ref       string            `json:"ref"`             // "name@3"
	Model     galley.Digest     `json:"model,omitempty"` // the version's digest
	Task      string            `json:"task"`
	Dataset   Data              `json:"dataset"`
	N         int               `json:"n"` // rows
	Metrics   map[string]Metric `json:"metrics"`
	Slices    []Slice           `json:"slices"`
	Labels    []LabelScore      `json:"labels"`
	Confusion *Confusion        `json:"confusion,omitempty"`
	// Confused are the most frequent wrong answers, also of models with too
	// many labels for a matrix.
	Confused    []ConfusedPair `json:"confused"`
	Calibration []Bin          `json:"calibration"` // the bins of ece
	Truncated   int            `json:"truncated"`   // texts cut to the model's length
	LatencyMS   Latency        `json:"latency_ms"`
	Resources   Resources      `json:"resources"`
	Baselines   []Baseline     `json:"baselines"`
	Robustness  *Robustness    `json:"robustness,omitempty"`
	Gate        Verdict        `json:"gate"`
}

// Data says which rows a report is about.
type Data struct {
	Name    string        `json:"name"`
	Version int           `json:"version,omitempty"`
	Digest  galley.Digest `json:"digest,omitempty"`
	Split   string        `json:"split,omitempty"`
}

// Latency is how long single requests took, in milliseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Mean float64 `json:"mean"`
	N    int     `json:"n"` // requests measured
	// Histogram counts them by time.
	Histogram []Bucket `json:"histogram,omitempty"`
}

// A Bucket is how many requests took so long, in milliseconds.
type Bucket struct {
	FromMS float64 `json:"from_ms"`
	ToMS   float64 `json:"to_ms"`
	N      int     `json:"n"`
}

// Resources are what the evaluation used, in batches.
type Resources struct {
	Seconds       float64 `json:"seconds"` // spent in the model's predictions
	RowsPerSecond float64 `json:"rows_per_second"`
	// CPUSeconds, of the model's predictions, and PeakBytes are those of the
	// whole process, which may have done other work; 0 where the system does not
	// say.
	CPUSeconds float64 `json:"cpu_seconds"`
	PeakBytes  int64   `json:"peak_bytes"`
	SizeBytes  int64   `json:"size_bytes"` // of the model's files on disk

	CPUSecondsPerThousand float64 `json:"cpu_seconds_per_thousand"` // rows
	Energy                *Energy `json:"energy,omitempty"`
	Cost                  *Cost   `json:"cost,omitempty"` // if a price was given
}

// A Cost is what processor time costs, in the currency of the price.
type Cost struct {
	PerCPUHour  float64 `json:"per_cpu_hour"` // the price
	PerThousand float64 `json:"per_thousand"` // rows
}

// A Baseline is another model on the same rows. Model and what follows it are
// there if it is a version.
type Baseline struct {
	Name       string             `json:"name"`
	Parameters map[string]float64 `json:"parameters,omitempty"` // those tuned on the validation split
	Metrics    map[string]Metric  `json:"metrics"`
	Difference Metric             `json:"difference"` // accuracy of the model minus that of the baseline
	Pairing    Pairing            `json:"pairing"`    // a is the model, b the baseline
	P          float64            `json:"p"`          // exact McNemar test
	Agreement  Metric             `json:"agreement"`  // share of rows with the same answer
	// Differences are of accuracy and macro_f1, the model's minus the
	// baseline's, by the paired bootstrap.
	Differences map[string]Metric `json:"differences,omitempty"`

	Model     galley.Digest `json:"model,omitempty"`
	SizeBytes int64         `json:"size_bytes,omitempty"`
	// In batches, as of Resources.
	RowsPerSecond         float64           `json:"rows_per_second,omitempty"`
	CPUSecondsPerThousand float64           `json:"cpu_seconds_per_thousand,omitempty"`
	Slices                []Contrast        `json:"slices,omitempty"`
	LatencyMS             *Latency          `json:"latency_ms,omitempty"` // taken in turns with the model's
	Ratios                map[string]Metric `json:"ratios,omitempty"`     // the model's latency over the baseline's

	Disagreements *Disagreements    `json:"disagreements,omitempty"`
	Robustness    []PerturbedBeside `json:"robustness,omitempty"` // by perturbation, as of the report's
}

// A Contrast is a baseline on some of the rows, beside the model.
type Contrast struct {
	Slice
	Difference Metric  `json:"difference"`
	Pairing    Pairing `json:"pairing"`
	P          float64 `json:"p"`          // exact McNemar test
	PAdjusted  float64 `json:"p_adjusted"` // for the number of slices, by Holm
}

// Beside returns the baseline that is the version with this digest.
func (r *Report) Beside(model galley.Digest) (Baseline, bool) {
	for _, b := range r.Baselines {
		if model != "" && b.Model == model {
			return b, true
		}
	}
	return Baseline{}, false
}

// A Verdict is the outcome of a gate: it passes if every check does.
type Verdict struct {
	Passed bool    `json:"passed"`
	Checks []Check `json:"checks"`
}

// A Check is one rule of a gate and how it turned out.
type Check struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail"`
}

// Add appends a check.
func (v *Verdict) Add(c Check) {
	v.Passed = v.Passed && c.Passed
	v.Checks = append(v.Checks, c)
}

// checkBaseline is the one rule every report has: more rows right than each
// baseline.
func checkBaseline(b Baseline, own Metric) Check {
	other := b.Metrics[Accuracy]
	return Check{
		Name:   "accuracy above " + b.Name,
		Passed: b.Difference.Value > 0,
		Detail: fmt.Sprintf("%.4f against %.4f, difference %+.4f [%+.4f, %+.4f]",
			own.Value, other.Value, b.Difference.Value, b.Difference.Low, b.Difference.High),
	}
}

// Encode returns the canonical JSON of the report: fields in the order of the
// types, keys of maps sorted.
func (r *Report) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, galley.Errorf(galley.Internal, "report", "cannot be written: %w", err)
	}
	return b.Bytes(), nil
}

// Digest names the report: the digest of its canonical JSON.
func (r *Report) Digest() (galley.Digest, error) {
	b, err := r.Encode()
	if err != nil {
		return "", err
	}
	return galley.DigestBytes(b), nil
}

// DecodeReport reads a report.
func DecodeReport(from io.Reader) (*Report, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxReport+1))
	if err != nil {
		return nil, galley.Errorf(galley.Unavailable, "report", "cannot be read: %w", err)
	}
	if len(data) > maxReport {
		return nil, galley.Errorf(galley.ResourceExhausted, "report", "is larger than %d MiB", maxReport>>20)
	}
	r := new(Report)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, "report", "not a report: %w", err)
	}
	return r, nil
}
