package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vbauerster/mpb/v8"

	controlpb "galley/api/control/v1"
)

// stepsOfLines makes steps of lines as "measure: shrink tune", what waits and
// what for.
func stepsOfLines(lines ...string) (steps []*controlpb.Step) {
	for _, line := range lines {
		id, waits, _ := strings.Cut(line, ":")
		steps = append(steps, &controlpb.Step{Id: id, Kind: "Train", Phase: "queued", Requires: strings.Fields(waits)})
	}
	return steps
}

// Each step is there once, below what it waits for; of several, below the one
// that comes last.
func TestTreeOfSteps(t *testing.T) {
	for want, steps := range map[string][]*controlpb.Step{
		"":                    nil,
		"a|└─ b|   └─ c":      stepsOfLines("a:", "b:a", "c:b"),
		"a|├─ b|│  └─ d|└─ c": stepsOfLines("a:", "b:a", "c:a", "d:b"),
		"a|├─ b|│  └─ c|│     └─ d|└─ e":     stepsOfLines("a:", "d:c e", "b:a", "c:b", "e:a"),
		"a|├─ b|└─ e|   └─ d":                stepsOfLines("a:", "d:b e", "b:a", "e:a"),
		"a|b|└─ c":                           stepsOfLines("a:", "b:", "c:a b"),
		"tune|└─ measure|   └─ release|base": stepsOfLines("release:measure", "measure:tune", "tune:", "base:"),
		"c|b|└─ a":                           stepsOfLines("c:gone", "b:a", "a:b"), // what no server sends
	} {
		var got []string
		for _, b := range treeOf(steps) {
			got = append(got, b.prefix+b.step.GetId())
		}
		if joined := strings.Join(got, "|"); joined != want {
			t.Errorf("got  %s\nwant %s", joined, want)
		}
	}
}

// On a terminal a pipeline is a tree of bars, of which those that run move.
func TestPipelineOnATerminal(t *testing.T) {
	var out bytes.Buffer
	p := newPipelineProgress(t.Context(), &out, nil)
	p.bars = mpb.New(mpb.WithOutput(&out), mpb.WithWidth(100), mpb.WithAutoRefresh())
	j := &controlpb.Job{Phase: "running", Steps: stepsOfLines("tune:", "distil:tune", "measure:distil")}
	p.update(j)
	step := func(i int, phase, version string) {
		next := &controlpb.Job{Phase: "running"}
		for k, s := range j.GetSteps() {
			s := &controlpb.Step{Id: s.GetId(), Kind: s.GetKind(), Requires: s.GetRequires(), Phase: s.GetPhase(), Version: s.GetVersion()}
			if k == i {
				s.Phase, s.Version = phase, version
			}
			next.Steps = append(next.Steps, s)
		}
		j = next
		p.update(j)
	}
	step(0, "running", "")
	p.came("tune", &controlpb.Job{Phase: "running", Progress: &controlpb.Progress{Step: 30, Steps: 120}}, nil)
	if note := p.notes.get("tune"); !strings.HasPrefix(note, "running 30/120") {
		t.Errorf("%q", note)
	}
	step(0, "succeeded", "news@1")
	p.came("tune", &controlpb.Job{Phase: "running", Progress: &controlpb.Progress{Step: 31, Steps: 120}}, nil) // too late
	step(1, "failed", "")
	p.finish()
	for id, want := range map[string]string{"tune": "succeeded  news@1", "distil": "failed", "measure": "waits"} {
		if note := p.notes.get(id); note != want {
			t.Errorf("%s: %q, want %q", id, note, want)
		}
	}
	for _, want := range []string{"tune ", "└─ distil ", "   └─ measure ", "succeeded  news@1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the screen has no %q:\n%s", want, out.String())
		}
	}
}
