package main

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/onnx"
)

// Who interrupts the quickstart is told so, and how to go on; not what broke
// because of it.
func TestQuickstartInterrupted(t *testing.T) {
	s := &story{app: &app{home: "/srv/try"}}
	ctx, interrupt := context.WithCancel(t.Context())
	broke := errors.New("it broke")
	if err := s.failed(ctx, "quickstart step ask", broke); !errors.Is(err, broke) || strings.Contains(err.Error(), "interrupted") {
		t.Error(err)
	}
	interrupt()
	err := s.failed(ctx, "quickstart step ask", context.Canceled)
	if galley.CodeOf(err) != galley.Canceled || err.Error() != "quickstart step ask: was interrupted — galley quickstart begins anew, in a new folder; galley up --home /srv/try goes on with what was under way" {
		t.Error(err)
	}
}

// The figures of the quickstart's experiment are held against what its readers
// saw: neither another verdict nor other counts pass.
func TestQuickstartHoldsFigures(t *testing.T) {
	s := &story{model: "headlines@1", worse: "headlines@2"}
	seen := map[string]tally{"headlines@1": {n: 16, right: 14}, "headlines@2": {n: 14, right: 2}}
	figures := func(change func(*controlpb.Experiment)) *controlpb.Experiment {
		bad, good := 2./14, 14./16
		e := &controlpb.Experiment{Verdict: "treatment", Arms: []*controlpb.ExperimentArm{
			{Arm: "control", Ref: "headlines@2", N: 14, Metric: &bad},
			{Arm: "treatment", Ref: "headlines@1", N: 16, Metric: &good},
		}}
		change(e)
		return e
	}
	if err := s.holdFigures(figures(func(*controlpb.Experiment) {}), seen, 30); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*controlpb.Experiment){
		"after 30 readers the verdict is undecided": func(e *controlpb.Experiment) { e.Verdict = "undecided" },
		"after 30 readers the verdict is control":   func(e *controlpb.Experiment) { e.Verdict = "control" },
		"mismatch of the shares: true":              func(e *controlpb.Experiment) { e.SampleRatioMismatch = true },
		"headlines@1 has 32 outcomes":               func(e *controlpb.Experiment) { e.Arms[1].N = 32 },
		"headlines@2 has 14 outcomes with mean 0.8": func(e *controlpb.Experiment) { e.Arms[0].Metric = e.Arms[1].Metric },
	} {
		if err := s.holdFigures(figures(change), seen, 30); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// What the quickstart damages is the biases of the labels, and nothing of a
// graph that has none.
func TestQuickstartDamages(t *testing.T) {
	m := &onnx.Model{Graph: &onnx.Graph{Initializers: []*onnx.Tensor{
		onnx.NewFloat("table", []float32{1, 2, 3, 4}, 2, 2), onnx.NewFloat("bias", []float32{1, 2}, 2), onnx.NewInt64("ids", []int64{1, 2}, 2),
	}}}
	if damage(m, 3) || !damage(m, 2) {
		t.Error("the bias was not found by its size")
	}
	for _, name := range []string{"table", "bias"} {
		values, _ := m.Graph.Initializer(name).Floats()
		if damaged := math.IsNaN(float64(values[0])); damaged != (name == "bias") {
			t.Errorf("%s: %v", name, values)
		}
	}
}

// A form that is not smaller than what it was made of is none.
func TestQuickstartHoldsSizes(t *testing.T) {
	sized := func(ref string, n int64) *controlpb.Version {
		return &controlpb.Version{Ref: ref, Files: []*controlpb.File{{Path: "labels.json", Size: 9000}, {Path: "model.onnx", Size: n}}}
	}
	if share, err := shareOfGraph(sized("a@2", 300), sized("a@1", 1000), mostOfTeacher); err != nil || share != .3 {
		t.Error(share, err)
	}
	if _, err := shareOfGraph(sized("a@2", 600), sized("a@1", 1000), mostOfFloat); err == nil || !strings.Contains(err.Error(), "60 % of the size of that of a@1") {
		t.Error(err)
	}
	if _, err := shareOfGraph(&controlpb.Version{Ref: "a@2"}, sized("a@1", 1000), mostOfFloat); err == nil {
		t.Error("a version without a graph passes")
	}
}
