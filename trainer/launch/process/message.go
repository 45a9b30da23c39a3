package process

import (
	"encoding/json"
	"maps"
	"math"

	"galley"
	"galley/trainer/engine"
)

// Bounds on what passes between parent and child.
const (
	maxRequest = 256 << 20 // a manifest may have many long labels
	maxMessage = 1 << 20
	maxText    = 16 << 10 // of a text inside a message
	maxLine    = 4 << 10  // of the log
)

// A message is one line from the child; one of its fields is set.
type message struct {
	Alive  bool           `json:"alive,omitempty"` // a sign of life
	Event  *engine.Event  `json:"event,omitempty"`
	Result *engine.Result `json:"result,omitempty"`
	Error  *galley.Error  `json:"error,omitempty"`
}

// encode writes a message as a line. JSON has no NaN and no infinity: such a
// value is left out.
func (m message) encode() ([]byte, error) {
	if m.Event != nil {
		e := *m.Event
		e.Loss, e.LR, e.GradNorm = finite(e.Loss), finite(e.LR), finite(e.GradNorm)
		e.Metrics = finites(e.Metrics)
		e.Message = galley.Clip(e.Message, maxText)
		m.Event = &e
	}
	if m.Result != nil {
		r := *m.Result
		r.Metrics = finites(r.Metrics)
		m.Result = &r
	}
	if m.Error != nil {
		e := *m.Error
		e.Subject, e.Message, e.Remedy = galley.Clip(e.Subject, maxText), galley.Clip(e.Message, maxText), galley.Clip(e.Remedy, maxText)
		m.Error = &e
	}
	data, err := json.Marshal(m)
	return append(data, '\n'), err
}

func isFinite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func finite(f float64) float64 {
	if isFinite(f) {
		return f
	}
	return 0
}

func finites(m map[string]float64) map[string]float64 {
	m = maps.Clone(m)
	maps.DeleteFunc(m, func(_ string, f float64) bool { return !isFinite(f) })
	return m
}
