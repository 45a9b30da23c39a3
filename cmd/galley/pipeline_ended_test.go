package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"
)

// What was measured is in the tree, and what a pipeline that has ended did not
// come to is not said to wait.
func TestStepsThatWereNotRun(t *testing.T) {
	at := func(second int64) *timestamppb.Timestamp { return timestamppb.New(time.Unix(second, 0)) }
	j := &controlpb.Job{Steps: []*controlpb.Step{
		{Id: "release", Kind: "Promote", Requires: []string{"measure"}, Phase: "queued"},
		{Id: "measure", Kind: "Eval", Requires: []string{"tune"}, Phase: "succeeded", Version: "topic@1", Found: "accuracy 0.9 on 40 rows", Started: at(5), Ended: at(7)},
		{Id: "tune", Kind: "Train", Phase: "succeeded", Version: "topic@1", Job: "topic-1", Started: at(2), Ended: at(5)},
		{Id: "base", Kind: "Train", Phase: "succeeded", Reused: true, Version: "base@1", Job: "base-1", Started: at(1), Ended: at(2)},
	}}
	for phase, is := range map[string]string{"failed": "not run", "cancelled": "not run", "running": "waits"} {
		j.Phase = phase
		var out strings.Builder
		if err := printTree(&out, j); err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			got = append(got, strings.Join(strings.Fields(line), " "))
		}
		want := "tune Train succeeded topic@1 3s topic-1|└─ measure Eval succeeded topic@1 2s accuracy 0.9 on 40 rows|└─ release Promote " + is + "|base Train unchanged base@1 base-1"
		if joined := strings.Join(got, "|"); joined != want {
			t.Errorf("%s: got %s\nwant %s", phase, joined, want)
		}
	}
}
