package task

import (
	"cmp"
	"context"
	"slices"

	"galley"
	"galley/onnx/session"
)

// A TextPredictor classifies texts with a session. It may be used by several
// goroutines at once; it does not close the session.
type TextPredictor struct {
	classifier *TextClassifier
	session    session.Session
}

// Bounds of one run: padded tokens, which decide its memory, and texts.
const (
	maxBatchTokens = 1 << 14
	maxBatchTexts  = 256
)

// NewTextPredictor checks that the session's graph is the classifier's.
func NewTextPredictor(classifier *TextClassifier, s session.Session) (*TextPredictor, error) {
	if err := classifier.Config.CheckGraph(s.Inputs(), s.Outputs()); err != nil {
		return nil, err
	}
	return &TextPredictor{classifier: classifier, session: s}, nil
}

// Predict classifies texts, in their order. Texts of like length run
// together, so that little is padded. The error names the index of a bad text.
func (p *TextPredictor) Predict(ctx context.Context, texts []string) ([]Classification, error) {
	out := make([]Classification, len(texts))
	truncated, err := p.each(ctx, texts, func(group []int, logits *session.Tensor) error {
		answers, err := p.classifier.Decode(logits)
		if err != nil {
			return err
		}
		for i, at := range group {
			out[at] = answers[i]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Truncated = truncated[i]
	}
	return out, nil
}

// Logits answers texts, in their order, with the numbers that their scores are
// made of: [len(texts), labels], one row after the other.
func (p *TextPredictor) Logits(ctx context.Context, texts []string) ([]float32, error) {
	classes := len(p.classifier.Config.Labels)
	out := make([]float32, len(texts)*classes)
	_, err := p.each(ctx, texts, func(group []int, logits *session.Tensor) error {
		values, err := p.classifier.values(logits)
		if err != nil {
			return err
		}
		for i, at := range group {
			copy(out[at*classes:(at+1)*classes], values[i*classes:])
		}
		return nil
	})
	return out, err
}

// each runs texts in groups of like length and calls take with the texts'
// numbers and the graph's answer, a row each. It returns which texts were
// truncated.
func (p *TextPredictor) each(ctx context.Context, texts []string, take func(group []int, logits *session.Tensor) error) ([]bool, error) {
	t, err := p.classifier.tokenize(texts)
	if err != nil {
		return nil, err
	}
	for _, group := range groups(t.rows) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := p.run(ctx, t.rows, group, take); err != nil {
			return nil, err
		}
	}
	return t.truncated, nil
}

// groups cuts the rows' numbers, by falling length, into batches.
func groups(rows [][]int32) [][]int {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(rows[b]), len(rows[a])) })
	var out [][]int
	for len(order) > 0 {
		longest := max(len(rows[order[0]]), 1)
		n := min(len(order), maxBatchTexts, max(maxBatchTokens/longest, 1))
		out = append(out, order[:n])
		order = order[n:]
	}
	return out
}

func (p *TextPredictor) run(ctx context.Context, rows [][]int32, group []int, take func([]int, *session.Tensor) error) error {
	chosen := make([][]int32, len(group))
	for i, at := range group {
		chosen[i] = rows[at]
	}
	batch, err := p.classifier.Collate(chosen)
	if err != nil {
		return err
	}
	defer batch.Release()
	name := p.classifier.Config.Outputs.Logits
	results, err := p.session.Run(ctx, batch.Inputs(), name)
	if err != nil {
		return err
	}
	defer func() {
		for _, t := range results {
			t.Close()
		}
	}()
	if t := results[name]; t != nil && len(t.Shape) == 2 && t.Shape[0] != int64(len(group)) {
		return galley.Errorf(galley.FailedPrecondition, name, "the graph answers %d of %d texts", t.Shape[0], len(group))
	}
	return take(group, results[name])
}
