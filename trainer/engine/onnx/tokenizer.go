package onnx

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"galley"
	"galley/dataset"
	"galley/feature/text"
	"galley/task"
	"galley/trainer/engine"
)

// tokenizerFor returns the parent's tokenizer, or the one that an earlier
// attempt learnt, or learns one from the training texts.
func tokenizerFor(ctx context.Context, r engine.Request, p *parent, rows dataset.Rows, report func(engine.Event)) (tokenizer, error) {
	if p != nil {
		return p.tokenizer, nil
	}
	path := filepath.Join(r.WorkDir, task.TokenizerFile)
	// A learnt tokenizer is written whole or not at all; one that cannot be
	// read was damaged since, and is learnt again: to the same result.
	if f, err := os.Open(path); err == nil {
		t, err := text.Load(f)
		f.Close()
		if err == nil {
			return t, nil
		}
	}
	t, err := learnTokenizer(ctx, r, rows)
	if err != nil {
		return nil, err
	}
	report(engine.Event{Kind: engine.Note, Message: fmt.Sprintf("learnt a %s vocabulary of %d tokens from %d texts",
		r.Spec.Architecture().Tokenizer, t.VocabSize(), rows.Len())})
	return t, task.WriteTokenizer(path, t)
}

func learnTokenizer(ctx context.Context, r engine.Request, rows dataset.Rows) (tokenizer, error) {
	m := r.Spec.Architecture()
	options := text.TrainOptions{VocabSize: m.Vocabulary, MinFrequency: m.MinFrequency, Lowercase: true, FoldWidth: true, MaxLength: m.MaxLength}
	switch m.Tokenizer {
	case "wordpiece":
		options.Model = text.WordPiece
	case "character":
		options.Model = text.Character
	default:
		return nil, galley.Errorf(galley.InvalidArgument, "model.tokenizer", "%q is not a tokenizer", m.Tokenizer).
			WithRemedy("use wordpiece or character")
	}
	var failed error
	t, err := text.Train(ctx, func(yield func(string) bool) {
		for i := range rows.Len() {
			row, err := rows.At(i)
			if err != nil {
				failed = err
				return
			}
			if !yield(row.Text) {
				return
			}
		}
	}, options)
	if failed != nil {
		return nil, failed
	}
	return t, err
}
