//go:build accuracy

package examples_test

import (
	"strings"
	"testing"
	"time"

	"galley/internal/ort/orttest"
	"galley/quantize"
	"galley/trainer"
	"galley/trainer/engine"
)

// quantized makes a smaller form of a bundle.
func quantized(t *testing.T, parent engine.Result, data frozen, lines string) engine.Result {
	t.Helper()
	spec, problems := trainer.ParseFile([]byte("apiVersion: galley/v1\nkind: Quantize\nname: small\nfrom: large@1\n"+lines), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	began := time.Now()
	result, err := quantize.Driver{Opener: orttest.Opener(t)}.Train(t.Context(), engine.Request{
		Job: spec.Name, Attempt: 1, Spec: spec, Data: data.manifest, Records: data.records, Parent: parent.Bundle, WorkDir: t.TempDir(),
	}, func(e engine.Event) {
		if e.Kind == engine.Note {
			t.Logf("%s (%.0f s)", e.Message, time.Since(began).Seconds())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// TestQuantized holds that the forms of 8 bits of the shipped classifiers lose
// at most half a point on the test splits of both sets together, and are faster
// than float at batch 1.
func TestQuantized(t *testing.T) {
	methods := []string{"method: dynamic\n", "method: static\n"}
	lost, rows := make([]int, len(methods)), 0
	for _, name := range []string{"ag-news", "thucnews"} {
		data := freeze(t, name, sources(t)[name])
		large, seconds := job(t, "jobs/"+name+".yaml", data, "", "data.dataset="+name)
		_, right := evaluate(t, large, data, "test")
		t.Logf("%s trained in %.0f s", name, seconds)
		rows += len(right)
		for i, lines := range methods {
			small := quantized(t, large, data, lines)
			_, still := evaluate(t, small, data, "test")
			before := lost[i]
			for row := range right {
				switch {
				case right[row] && !still[row]:
					lost[i]++
				case !right[row] && still[row]:
					lost[i]--
				}
			}
			ratio := small.Metrics["latency_ratio"]
			t.Logf("%s, %s: %d of %d right answers lost, %.2fx of the latency, %.2fx of the size",
				name, strings.TrimSpace(lines), lost[i]-before, len(right), ratio, small.Metrics["size_ratio"])
			if ratio >= 1 || small.Withheld != "" {
				t.Errorf("%s, %s: %.2fx of float's latency, %s", name, strings.TrimSpace(lines), ratio, small.Withheld)
			}
		}
	}
	for i, lines := range methods {
		if points := 100 * float64(lost[i]) / float64(rows); points > .5 {
			t.Errorf("%s: %.2f points lost on %d rows", strings.TrimSpace(lines), points, rows)
		}
	}
}
