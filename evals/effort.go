package evals

import (
	"context"
	"time"

	"galley"
)

// effort is what a model's predictions have taken.
type effort struct {
	spent time.Duration
	cpu   float64 // seconds of the process
}

// ask asks a model for texts.
func (u *effort) ask(ctx context.Context, p Predictor, texts []string, name string) ([]Prediction, error) {
	start, before := time.Now(), usage()
	out, err := ask(ctx, p, texts, name)
	u.spent += time.Since(start)
	u.cpu += usage().cpu - before.cpu
	return out, err
}

func (u effort) rowsPerSecond(rows int) float64 {
	return float64(rows) / max(u.spent.Seconds(), 1e-9)
}

func (u effort) cpuPerThousand(rows int) float64 { return u.cpu / float64(rows) * 1000 }

// ask makes sure that every text has its answer.
func ask(ctx context.Context, p Predictor, texts []string, name string) ([]Prediction, error) {
	out, err := p.Predict(ctx, texts)
	if err != nil {
		return nil, err
	}
	if len(out) != len(texts) {
		return nil, galley.Errorf(galley.Internal, "evals", "%s gave %d answers to %d texts", name, len(out), len(texts))
	}
	return out, nil
}
