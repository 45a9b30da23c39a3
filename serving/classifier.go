package serving

import (
	"context"
	"fmt"
	"time"

	"galley"
	"galley/internal/processors"
	"galley/onnx/session"
	"galley/registry"
	"galley/task"
)

// MaxTexts bounds the texts of one request.
const MaxTexts = 4096

// classifierLimits are those of a text classifier, whose rows are texts and
// whose size is tokens. A run is kept short: who comes next waits for it.
func classifierLimits() limits {
	return limits{executors: processors.Cores(), requests: 1024, bytes: 16 << 20, rows: 32, size: 2048}
}

// rowBytes is what a text takes in the queue beside its tokens.
const rowBytes = 128

// A classifier answers texts with a graph.
type classifier struct {
	*task.TextClassifier
	session session.Session
	batcher *batcher[[]int32, task.Classification]
}

// NewTextClassifier serves a text classifier: texts in, labels and scores out.
// Texts of requests that come together run together where their lengths are
// near. The servable closes the session.
func NewTextClassifier(v registry.Version, c *task.TextClassifier, s session.Session) (*Servable, error) {
	return newTextClassifier(v, c, s, classifierLimits())
}

func newTextClassifier(v registry.Version, c *task.TextClassifier, s session.Session, l limits) (*Servable, error) {
	signature, err := c.Config.Signature()
	if err != nil {
		return nil, err
	}
	if err := c.Config.CheckGraph(s.Inputs(), s.Outputs()); err != nil {
		return nil, err
	}
	served := &classifier{TextClassifier: c, session: s}
	served.batcher = newBatcher(v.Ref(), l, served.run)
	return &Servable{
		Version: v, Signature: signature, Platform: platform,
		closeModel: s.Close,
		infer:      served.infer,
		load:       served.batcher.load,
	}, nil
}

// infer answers a request. Its texts become tokens here, beside the runs of
// other requests.
func (c *classifier) infer(ctx context.Context, r *recorder, inputs map[string]*session.Tensor) (answer, error) {
	texts := inputs["text"].Strings()
	if len(texts) > MaxTexts {
		return answer{}, galley.Errorf(galley.InvalidArgument, "text", "%d texts in one request", len(texts)).
			WithRemedy("send at most %d a request", MaxTexts)
	}
	if err := c.batcher.admit(); err != nil {
		return answer{}, err
	}
	began := time.Now()
	rows, sizes := make([][]int32, len(texts)), make([]int, len(texts))
	truncated := make([]bool, len(texts))
	bytes := int64(0)
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return answer{}, interrupted(c.batcher.name, err)
		}
		ids, info, err := c.Tokenize(nil, fmt.Sprintf("text[%d]", i), text)
		if err != nil {
			return answer{}, err
		}
		rows[i], sizes[i], truncated[i] = ids, len(ids), info.Truncated
		bytes += rowBytes + 4*int64(cap(ids))
	}
	tokenized := time.Since(began)
	var answers []task.Classification
	var times timing
	if len(texts) > 0 {
		var err error
		if answers, times, err = c.batcher.do(ctx, r, rows, sizes, bytes); err != nil {
			return answer{}, err
		}
	}
	times.input += tokenized
	for i := range answers {
		answers[i].Truncated = truncated[i]
	}
	outputs, err := classificationTensors(answers, len(c.Config.Labels))
	return answer{outputs, len(texts), times}, err
}

// run answers rows of tokens, padded to size.
func (c *classifier) run(ctx context.Context, rows [][]int32, size int) (answers []task.Classification, t timing, err error) {
	began := time.Now()
	b, err := c.CollateTo(rows, size)
	if err != nil {
		return nil, t, err
	}
	defer b.Release()
	ready := time.Now()
	name := c.Config.Outputs.Logits
	results, err := c.session.Run(ctx, b.Inputs(), name)
	if err != nil {
		return nil, t, err
	}
	defer closeAll(results)
	ran := time.Now()
	answers, err = c.Decode(results[name])
	return answers, timing{input: ready.Sub(began), infer: ran.Sub(ready), output: time.Since(ran)}, err
}

func closeAll(tensors map[string]*session.Tensor) {
	for _, t := range tensors {
		t.Close()
	}
}

func classificationTensors(predictions []task.Classification, classes int) (map[string]*session.Tensor, error) {
	n := int64(len(predictions))
	labels := make([]string, n)
	score := make([]float32, n)
	scores := make([]float32, 0, int(n)*classes)
	truncated := make([]bool, n)
	for i, p := range predictions {
		labels[i], score[i], truncated[i] = p.Label, p.Score, p.Truncated
		scores = append(scores, p.Scores...)
	}
	out := map[string]*session.Tensor{}
	var err error
	if out["label"], err = session.NewStrings(labels, n); err != nil {
		return nil, err
	}
	if out["score"], err = session.New(score, n); err != nil {
		return nil, err
	}
	if out["truncated"], err = session.New(truncated, n); err != nil {
		return nil, err
	}
	out["scores"], err = session.New(scores, n, int64(classes))
	return out, err
}
