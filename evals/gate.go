package evals

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"galley"
	"galley/dataset"
)

// Bounds on a gate from outside.
const (
	maxRules     = 100
	maxGateBytes = 64 << 10
	maxSliceName = 100
)

// A Gate decides by a report whether a version may take production's place.
// It is data: rules that people write, and that are kept with what they
// decided.
type Gate struct {
	// Data is the registered dataset, name or name@version, and Split the part
	// of it on which versions are compared, whoever asks; empty for the rows
	// that the request names, or those the version was trained on.
	Data  string        `json:"data,omitempty"`
	Split dataset.Split `json:"split,omitempty"`
	Rules []Rule        `json:"rules"`
}

// A Rule bounds one figure of a report, by itself (Min, Max) or beside the
// version in production on the same rows. Each bound that is set is a check.
type Rule struct {
	Metric string `json:"metric"`
	// Slice is one of the report's slices, "language=zh"; empty for all rows.
	// A slice that the rows do not have fails: it was not shown.
	Slice string `json:"slice,omitempty"`

	Min *float64 `json:"min,omitempty"`
	Max *float64 `json:"max,omitempty"`

	// MaxWorse is by how much the metric may be worse than production's, in
	// its own unit: 0.01 is one point of accuracy.
	MaxWorse *float64 `json:"max_worse,omitempty"`
	// MaxWorseBound is how far the worse end of the paired interval of the
	// difference may lie; accuracy alone has one.
	MaxWorseBound *float64 `json:"max_worse_bound,omitempty"`
	// MaxRatio is how many times production's the figure may be.
	MaxRatio *float64 `json:"max_ratio,omitempty"`
}

// DefaultGate is the gate of alias prod. It refuses a version whose accuracy
// is worse than production's by more than one point on the same rows, or may
// be worse by more than five; or whose median latency is over 1.1 times, or
// 99th percentile over 1.5 times, what production's is in the same run.
func DefaultGate() Gate {
	at := func(x float64) *float64 { return &x }
	return Gate{Rules: []Rule{
		{Metric: Accuracy, MaxWorse: at(.01), MaxWorseBound: at(.05)},
		{Metric: LatencyMedian, MaxRatio: at(1.1)},
		{Metric: LatencyTail, MaxRatio: at(1.5)},
	}}
}

// DecodeGate reads a gate written as JSON.
func DecodeGate(from io.Reader) (Gate, error) {
	var g Gate
	data, err := io.ReadAll(io.LimitReader(from, maxGateBytes+1))
	if err != nil {
		return g, galley.Errorf(galley.Unavailable, "gate", "cannot be read: %w", err)
	}
	if len(data) > maxGateBytes {
		return g, galley.Errorf(galley.ResourceExhausted, "gate", "has more than %d KiB", maxGateBytes>>10)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&g); err != nil {
		return Gate{}, galley.Errorf(galley.InvalidArgument, "gate", "cannot be understood: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Gate{}, galley.Errorf(galley.InvalidArgument, "gate", "something follows it")
	}
	return g, g.Validate()
}

// Validate checks that the rules can be judged.
func (g Gate) Validate() error {
	if len(g.Rules) > maxRules {
		return galley.Errorf(galley.InvalidArgument, "gate", "%d rules are more than %d", len(g.Rules), maxRules)
	}
	if err := g.checkData(); err != nil {
		return err
	}
	for i, r := range g.Rules {
		if why := r.check(); why != "" {
			return galley.Errorf(galley.InvalidArgument, fmt.Sprintf("gate rule %d", i+1), "%s", why)
		}
	}
	return nil
}

func (g Gate) checkData() error {
	switch {
	case g.Split != "" && g.Data == "":
		return galley.Errorf(galley.InvalidArgument, "gate split", "goes with data only").WithRemedy("name a dataset as data")
	case !slices.Contains([]dataset.Split{"", dataset.Train, dataset.Valid, dataset.Test}, g.Split):
		return galley.Errorf(galley.InvalidArgument, "gate split", "%q is not a split", galley.Clip(string(g.Split), 80)).
			WithRemedy("write train, valid or test")
	case g.Data == "":
		return nil
	}
	ref, err := galley.ParseRef(g.Data)
	if err != nil || ref.Alias != "" || ref.Digest != "" {
		return galley.Errorf(galley.InvalidArgument, "gate data", "%q is not a dataset", galley.Clip(g.Data, 80)).
			WithRemedy("write a registered dataset's name, or name@version")
	}
	return nil
}

func (r Rule) check() string {
	f, ok := figures[r.Metric]
	switch {
	case !ok:
		return fmt.Sprintf("%q is not a metric of gates, which are %s", galley.Clip(r.Metric, 80), strings.Join(slices.Sorted(maps.Keys(figures)), ", "))
	case len(r.Slice) > maxSliceName || strings.ContainsAny(r.Slice, "\n\r\x00"):
		return "its slice is no slice's name"
	case r.Slice != "" && !f.slices:
		return r.Metric + " is not measured by slice"
	case r.MaxWorse != nil && f.beside == nil, r.MaxRatio != nil && !f.ratio:
		return r.Metric + " is not compared with production"
	case r.MaxWorseBound != nil && !f.paired:
		return r.Metric + " has no interval of the difference; use max_worse"
	case r.Min == nil && r.Max == nil && r.MaxWorse == nil && r.MaxWorseBound == nil && r.MaxRatio == nil:
		return "bounds nothing"
	}
	for _, bound := range []*float64{r.Min, r.Max, r.MaxWorse, r.MaxWorseBound, r.MaxRatio} {
		if bound != nil && (math.IsNaN(*bound) || math.IsInf(*bound, 0)) {
			return "has a bound that is not a number"
		}
	}
	for _, bound := range []*float64{r.MaxWorse, r.MaxWorseBound, r.MaxRatio} {
		if bound != nil && *bound < 0 {
			return "has a negative margin"
		}
	}
	return ""
}

// relative reports whether a rule needs production beside it.
func (r Rule) relative() bool {
	return r.MaxWorse != nil || r.MaxWorseBound != nil || r.MaxRatio != nil
}
