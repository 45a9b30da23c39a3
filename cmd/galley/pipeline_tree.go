package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/trainer"
)

// A branch is a step of a pipeline and how it hangs on the tree.
type branch struct {
	step   *controlpb.Step
	prefix string
}

// treeOf arranges the steps of a pipeline as a tree: each below the step that
// it waits for, of several the one that comes last.
func treeOf(steps []*controlpb.Step) []branch {
	byID := map[string]*controlpb.Step{}
	for _, s := range steps {
		byID[s.GetId()] = s
	}
	depths := map[string]int{}
	var depth func(s *controlpb.Step) int
	depth = func(s *controlpb.Step) int {
		if d, known := depths[s.GetId()]; known {
			return d
		}
		depths[s.GetId()] = 0 // the server sends no cycles; another one is cut here
		d := 0
		for _, id := range s.GetRequires() {
			if of := byID[id]; of != nil {
				d = max(d, depth(of)+1)
			}
		}
		depths[s.GetId()] = d
		return d
	}
	below := map[string][]*controlpb.Step{}
	for _, s := range steps {
		parent := ""
		for _, id := range s.GetRequires() {
			if of := byID[id]; of != nil && depth(of) == depth(s)-1 {
				parent = id
			}
		}
		below[parent] = append(below[parent], s)
	}
	var out []branch
	var hang func(parent, indent string)
	hang = func(parent, indent string) {
		for i, s := range below[parent] {
			last := i == len(below[parent])-1
			switch {
			case parent == "":
				out = append(out, branch{s, ""})
				hang(s.GetId(), "")
			case last:
				out = append(out, branch{s, indent + "└─ "})
				hang(s.GetId(), indent+"   ")
			default:
				out = append(out, branch{s, indent + "├─ "})
				hang(s.GetId(), indent+"│  ")
			}
		}
	}
	hang("", "")
	return out
}

// state says how a step of a pipeline is, in few words.
func state(s *controlpb.Step) string {
	switch {
	case s.GetReused():
		return "unchanged"
	case s.GetPhase() == string(trainer.Queued):
		return "waits"
	}
	return s.GetPhase()
}

// printTree prints the steps of a pipeline.
func printTree(out io.Writer, j *controlpb.Job) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, b := range treeOf(j.GetSteps()) {
		is := state(b.step)
		if b.step.GetPhase() == string(trainer.Queued) && trainer.Phase(j.GetPhase()).Final() {
			is = "not run"
		}
		took := ""
		if b.step.GetEnded() != nil && !b.step.GetReused() {
			took = b.step.GetEnded().AsTime().Sub(b.step.GetStarted().AsTime()).Round(100 * time.Millisecond).String()
		}
		fmt.Fprintf(w, "  %s%s\t%s\t%s\t%s\t%s\t%s%s\n", b.prefix, b.step.GetId(), b.step.GetKind(), is, b.step.GetVersion(), took, b.step.GetJob(), b.step.GetFound())
	}
	return w.Flush()
}

// pipelineStepJSON is a step of a pipeline.
type pipelineStepJSON struct {
	ID       string        `json:"id"`
	Kind     string        `json:"kind"`
	Requires []string      `json:"requires"`
	Phase    string        `json:"phase"`
	Reused   bool          `json:"reused"`
	Job      string        `json:"job,omitempty"`
	Version  string        `json:"version,omitempty"`
	Report   string        `json:"report,omitempty"`
	Found    string        `json:"found,omitempty"`
	Error    *galley.Error `json:"error,omitempty"`
	Started  *time.Time    `json:"started,omitempty"`
	Ended    *time.Time    `json:"ended,omitempty"`
}

func stepsOf(j *controlpb.Job) (out []pipelineStepJSON) {
	for _, s := range j.GetSteps() {
		out = append(out, pipelineStepJSON{
			s.GetId(), s.GetKind(), append([]string{}, s.GetRequires()...), s.GetPhase(), s.GetReused(), s.GetJob(), s.GetVersion(), s.GetReport(), s.GetFound(),
			errorOf(s.GetError()), timeOf(s.GetStarted()), timeOf(s.GetEnded()),
		})
	}
	return out
}
