//go:build peers

package peers_test

import (
	"bytes"
	"context"
	"math"
	"testing"
	"time"
)

// What the clients ask: from both languages, mixed, and of odd forms.
var questions = []string{
	"Parliament votes on the budget tonight",
	"Central bank holds rates as inflation slows",
	"Striker scores twice in stoppage time to win the derby",
	"央行维持利率不变，市场反应平静",
	"探测器传回火星地下冰层的首批数据",
	"女排逆转夺冠，主教练赛后落泪",
	"AI芯片 startup 完成B轮融资 at a $2bn valuation",
	"ＦＵＬＬ　ｗｉｄｔｈ １２３ Ünïcode “quotes” 😀",
	"a",
}

// A stock tritonclient asks over gRPC what it asks Triton, and gets the
// answers that the command gets.
func TestPeerTritonclient(t *testing.T) {
	python(t)
	s := quickstart(t)
	var got struct {
		Checks  []check
		Answers map[string][]answer
	}
	runScript(t, map[string]any{"texts": questions}, &got, "inference_client.py", s.address)
	report(t, got.Checks)
	for ref, version := range map[string]string{"headlines:prod": "headlines@1", "headlines": "headlines@1", "headlines@2": "headlines@2"} {
		t.Run("command/"+ref, func(t *testing.T) {
			want := predict(t, s, ref, questions)
			if want.Model != version {
				t.Errorf("%s is answered by %s, not %s", ref, want.Model, version)
			}
			sameAnswers(t, got.Answers[version], want.Outputs, questions, 1e-5)
		})
	}
}

// sameAnswers holds a peer's answers against galley's own.
func sameAnswers(t *testing.T, got, want []answer, texts []string, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d answers, galley gives %d", len(got), len(want))
	}
	worst := 0.0
	for i, w := range want {
		g := got[i]
		if g.Label != w.Label || len(g.Scores) != len(w.Scores) {
			t.Errorf("%q is %q of %d labels, galley says %q of %d", texts[i], g.Label, len(g.Scores), w.Label, len(w.Scores))
			continue
		}
		off := math.Abs(g.Score - w.Score)
		for label, score := range w.Scores {
			other, ok := g.Scores[label]
			if !ok {
				t.Errorf("%q has no score for %q", texts[i], label)
			}
			off = math.Max(off, math.Abs(other-score))
		}
		if !(off <= tolerance) {
			t.Errorf("%q: the scores are %v, galley gives %v", texts[i], g.Scores, w.Scores)
		}
		worst = math.Max(worst, off)
	}
	t.Logf("%d texts, scores differ by %.2g at most", len(want), worst)
}

// Eight clients ask without a pause while versions are promoted and rolled
// back: no request fails, and each answer is one that its version gives.
func TestPeerSwitch(t *testing.T) {
	python(t)
	s := quickstart(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := script(t, ctx, "load.py", s.address)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	stdin, err := cmd.StdinPipe() // its end ends the load
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	const rounds = 10
	time.Sleep(time.Second) // until all clients ask
	for range rounds {
		s.call(t, nil, "models", "promote", "headlines@2", "prod", "--force", "--reason", "a switch under load")
		time.Sleep(100 * time.Millisecond)
		s.call(t, nil, "models", "rollback", "headlines", "prod")
		time.Sleep(100 * time.Millisecond)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("load.py: %v\n%s", err, stderr.Bytes())
	}
	var got struct {
		Requests, Switches int
		Versions           map[string]int
		Failures, Mixed    []string
	}
	if err := decode(&stdout, &got); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d requests, %d changes of version seen, by version %v", got.Requests, got.Switches, got.Versions)
	for _, f := range got.Failures {
		t.Errorf("a request failed: %s", f)
	}
	for _, m := range got.Mixed {
		t.Errorf("an answer is not its version's: %s", m)
	}
	if got.Versions["1"] == 0 || got.Versions["2"] == 0 || len(got.Versions) != 2 || got.Switches < rounds {
		t.Errorf("%d requests saw %v and %d changes; the load and the switches did not meet", got.Requests, got.Versions, got.Switches)
	}
}
