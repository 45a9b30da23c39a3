package quantize

import (
	"time"

	"galley/trainer/engine"
)

// steps tells the progress of an attempt: a step is a row that was read.
type steps struct {
	report func(engine.Event)
	done   int
	all    int
	told   time.Time
}

// tellEvery is how often progress is told.
const tellEvery = time.Second

// plan tells how many rows will be read.
func (s *steps) plan(rows int, message string) {
	s.all += rows
	s.told = time.Now()
	s.report(engine.Event{Kind: engine.Started, Step: s.done, Steps: s.all, Message: message})
}

// more adds rows that were not planned.
func (s *steps) more(rows int) { s.all += rows }

// add counts rows that were read.
func (s *steps) add(rows int, what string) {
	s.done = min(s.done+rows, s.all)
	if now := time.Now(); now.Sub(s.told) >= tellEvery {
		s.told = now
		s.report(engine.Event{Kind: engine.Progress, Step: s.done, Steps: s.all, Message: what})
	}
}

func (s *steps) note(message string) {
	s.report(engine.Event{Kind: engine.Note, Step: s.done, Steps: s.all, Message: message})
}

// finish tells that all is done, with the metrics.
func (s *steps) finish(metrics map[string]float64) {
	s.done = s.all
	s.report(engine.Event{Kind: engine.Validated, Step: s.done, Steps: s.all, Metrics: metrics})
}
