//go:build bench

package rpc

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	inferencepb "galley/api/inference/v2"

	"galley/experiment"
)

// TestBenchExperimentCost measures what a split decision and its log add to the
// p50 of a request that runs nothing, in this process.
func TestBenchExperimentCost(t *testing.T) {
	const turns, requests, most = 9, 4000, 3 * time.Microsecond
	s := newInference(t)
	s.Signer = experiment.NewSigner(experiment.NewKey())
	e := experiment.Experiment{
		ID: 1, Name: "test", Model: "echo-fp32", Versions: [2]int{2, 3}, Stages: []experiment.Stage{{Treatment: experiment.Parts / 10}}, Metric: "click",
		Unit: experiment.PerOutcome, Guards: experiment.DefaultGuards(), Salt: make([]byte, experiment.SaltSize), State: experiment.Running,
	}
	r := &inferencepb.ModelInferRequest{
		ModelName: "echo-fp32", RawInputContents: [][]byte{make([]byte, 64)},
		Inputs: []*inferencepb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: []int64{16}}},
	}
	median := func() time.Duration {
		took := make([]time.Duration, requests)
		for i := range took {
			r.Id = strconv.Itoa(i)
			begun := time.Now()
			if _, err := s.ModelInfer(context.Background(), r); err != nil {
				t.Fatal(err)
			}
			took[i] = time.Since(begun)
		}
		slices.Sort(took)
		return took[requests/2]
	}
	route := experiment.NewRoute(e, nil)
	var without, with, added []time.Duration
	for turn := range turns + 1 {
		s.Table.SetRoute("echo-fp32", nil)
		a := median()
		s.Table.SetRoute("echo-fp32", route)
		b := median()
		if turn > 0 { // the first one opens versions
			without, with, added = append(without, a), append(with, b), append(added, b-a)
		}
	}
	for _, all := range [][]time.Duration{without, with, added} {
		slices.Sort(all)
	}
	t.Logf("p50 without an experiment %s, with one %s, added %s (%s to %s)", without[turns/2], with[turns/2], added[turns/2], added[0], added[turns-1])
	if f := route.Figures(time.Now()); f[experiment.Treatment].Requests == 0 {
		t.Error("the treatment was not asked")
	}
	if added[turns/2] > most {
		t.Errorf("an experiment adds more than %s", most)
	}
}
