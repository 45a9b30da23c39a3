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
	truncated, err := p.each(ctx, texts, nil, func(group []int, results map[string]*session.Tensor) error {
		answers, err := p.classifier.Decode(results[p.classifier.Config.Outputs.Logits])
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
// made of: [len(texts), labels], one row after the other. If beside names a
// further output of the graph, float32 [n, width], a row has its numbers after
// the logits.
func (p *TextPredictor) Logits(ctx context.Context, texts []string, beside string, width int) ([]float32, error) {
	classes := len(p.classifier.Config.Labels)
	var further []string
	if beside != "" {
		further = []string{beside}
	}
	row := classes + width
	out := make([]float32, len(texts)*row)
	_, err := p.each(ctx, texts, further, func(group []int, results map[string]*session.Tensor) error {
		logits, err := p.classifier.values(results[p.classifier.Config.Outputs.Logits])
		if err != nil {
			return err
		}
		more := session.Data[float32](results[beside])
		if len(more) != len(group)*width {
			return galley.Errorf(galley.FailedPrecondition, beside, "the graph's answer is %s, not float [%d, %d]", describe(results[beside]), len(group), width)
		}
		for i, at := range group {
			copy(out[at*row:], logits[i*classes:(i+1)*classes])
			copy(out[at*row+classes:], more[i*width:(i+1)*width])
		}
		return nil
	})
	return out, err
}

// each runs texts in groups of like length and calls take with the texts'
// numbers and the graph's answers, a row each: its logits and further outputs.
// It returns which texts were truncated.
func (p *TextPredictor) each(ctx context.Context, texts, further []string, take func(group []int, results map[string]*session.Tensor) error) ([]bool, error) {
	t, err := p.classifier.tokenize(texts)
	if err != nil {
		return nil, err
	}
	for _, group := range groups(t.rows) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := p.run(ctx, t.rows, group, further, take); err != nil {
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

func (p *TextPredictor) run(ctx context.Context, rows [][]int32, group []int, further []string, take func([]int, map[string]*session.Tensor) error) error {
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
	results, err := p.session.Run(ctx, batch.Inputs(), append([]string{name}, further...)...)
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
	return take(group, results)
}
