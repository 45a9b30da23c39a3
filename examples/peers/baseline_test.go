//go:build peers

package peers_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"galley/examples/headlines"
)

// The baseline that the quickstart's report states is as good as what
// scikit-learn makes of the same files: beating it means something.
func TestPeerBaseline(t *testing.T) {
	python(t)
	s := quickstart(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, headlines.Files); err != nil {
		t.Fatal(err)
	}
	type metrics map[string]struct{ Value float64 }
	var version struct {
		Reports []struct {
			Dataset   struct{ Split string }
			Metrics   metrics
			Baselines []struct {
				Name    string
				Metrics metrics
			}
		}
	}
	s.call(t, &version, "models", "show", "headlines:prod")
	model, baseline := math.NaN(), math.NaN()
	for _, r := range version.Reports {
		if r.Dataset.Split != "test" || len(r.Baselines) == 0 {
			continue
		}
		if name := r.Baselines[0].Name; name != "tfidf-logistic-regression" {
			t.Errorf("the baseline is %s", name)
		}
		model, baseline = r.Metrics["accuracy"].Value, r.Baselines[0].Metrics["accuracy"].Value
	}
	var peer struct{ C, Valid, Test float64 }
	runScript(t, nil, &peer, "baseline.py",
		filepath.Join(dir, "train.csv"), filepath.Join(dir, "valid.csv"), filepath.Join(dir, "test.csv"))
	t.Logf("headlines:prod %.4f, its baseline %.4f; scikit-learn %.4f (C %v, validation %.4f)", model, baseline, peer.Test, peer.C, peer.Valid)
	if off := math.Abs(baseline - peer.Test); !(off <= .015) {
		t.Errorf("the report's baseline has accuracy %.4f, scikit-learn's %.4f", baseline, peer.Test)
	}
}
