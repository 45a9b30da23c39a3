package task

import (
	"math"

	"galley"
	"galley/feature/text"
	"galley/onnx"
	"galley/onnx/session"
)

// A Classification is a classifier's answer about one text.
type Classification struct {
	Label     string
	Score     float32   // the label's
	Scores    []float32 // of all labels, in their order; they add up to 1
	Truncated bool      // the end of the text was not read
}

// A TextClassifier encodes texts and reads the logits of a graph.
type TextClassifier struct {
	*TextEncoder
}

// NewTextClassifier makes a classifier of a configuration.
func NewTextClassifier(config *Config, tokenizer *text.Tokenizer) (*TextClassifier, error) {
	if config.Task != TextClassification {
		return nil, galley.Errorf(galley.FailedPrecondition, "task", "a %s model does not classify", config.Task).
			WithRemedy("choose a version of task %s", TextClassification)
	}
	encoder, err := NewTextEncoder(config, tokenizer)
	if err != nil {
		return nil, err
	}
	return &TextClassifier{TextEncoder: encoder}, nil
}

// Decode reads logits, float32 [n, labels].
func (c *TextClassifier) Decode(logits *session.Tensor) ([]Classification, error) {
	values, err := c.values(logits)
	if err != nil {
		return nil, err
	}
	classes := len(c.Config.Labels)
	out := make([]Classification, logits.Shape[0])
	scores := make([]float32, len(values))
	for i := range out {
		row := scores[i*classes : (i+1)*classes : (i+1)*classes]
		best, ok := Softmax(row, values[i*classes:(i+1)*classes])
		if !ok {
			return nil, galley.Errorf(galley.Internal, c.Config.Outputs.Logits, "the graph's answer to text[%d] is not finite", i).
				WithRemedy("the model is damaged or its training diverged; roll back to another version")
		}
		out[i] = Classification{Label: c.Config.Labels[best], Score: row[best], Scores: row}
	}
	return out, nil
}

// values are the numbers of logits, float32 [n, labels].
func (c *TextClassifier) values(logits *session.Tensor) ([]float32, error) {
	classes := len(c.Config.Labels)
	values := session.Data[float32](logits)
	if values == nil || len(logits.Shape) != 2 || logits.Shape[1] != int64(classes) || int64(len(values)) != logits.Size() {
		return nil, galley.Errorf(galley.FailedPrecondition, c.Config.Outputs.Logits, "the graph's answer is %s, not float [batch, %d]", describe(logits), classes).
			WithRemedy("the labels in %s must be those that the graph was trained with", ConfigFile)
	}
	return values, nil
}

// Softmax writes the probabilities of logits to dst and returns the place of
// the largest, the first of equals; ok is false if a logit is not finite.
func Softmax(dst, logits []float32) (best int, ok bool) {
	for i, v := range logits {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return 0, false
		}
		if v > logits[best] {
			best = i
		}
	}
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - float64(logits[best]))
	}
	for i, v := range logits {
		dst[i] = float32(math.Exp(float64(v)-float64(logits[best])) / sum)
	}
	return best, true
}

func describe(t *session.Tensor) string {
	if t == nil {
		return "missing"
	}
	return t.Type.String() + " " + onnx.Fixed(t.Shape...).String()
}
