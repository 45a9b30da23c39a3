package onnx

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"galley"
	"galley/dataset"
	"galley/feature/text"
	graph "galley/onnx"
	"galley/task"
	"galley/trainer"
	"galley/trainer/architecture"
	"galley/trainer/engine"
	"galley/trainer/objective"
)

// encoderKey is the metadata entry in which a graph of galley's own keeps the
// sizes it was built with, so that a later job can build onto it.
const encoderKey = "galley.text-encoder"

// encoderOf takes the sizes that a spec asks for.
func encoderOf(m trainer.Model, vocabulary int) architecture.TextEncoder {
	return architecture.TextEncoder{
		Layers: m.Layers, Hidden: m.Hidden, Heads: m.Heads, FeedForward: m.FeedForward,
		MaxLength: m.MaxLength, Vocabulary: vocabulary, Dropout: m.Dropout,
		NGrams: architecture.NGrams{Orders: m.NGrams.Orders, Buckets: m.NGrams.Buckets, Width: m.NGrams.Width},
	}
}

// A parent is the model that a job goes on from.
type parent struct {
	config    *task.Config // nil for an outside graph that nobody described
	labels    []string     // that its head tells apart, if it has one
	maxLength int          // tokens that it takes
	tokenizer tokenizer
	model     *graph.Model
	encoder   *architecture.TextEncoder // nil for a graph that galley did not build
}

// openParent reads the model's folder. That of an outside graph has no
// galley.json.
func openParent(dir string) (*parent, error) {
	t, err := parentTokenizer(filepath.Join(dir, task.TokenizerFile))
	if err != nil {
		return nil, err
	}
	m, err := graph.ReadFile(filepath.Join(dir, task.ModelFile), graph.ReadOptions{})
	if err != nil {
		return nil, err
	}
	p := &parent{maxLength: outsideLength, tokenizer: t, model: m}
	if n := t.MaxLength(); n > 0 {
		p.maxLength = n
	}
	if f, err := os.Open(filepath.Join(dir, task.ConfigFile)); err == nil {
		defer f.Close()
		config, err := task.DecodeConfig(f)
		if err != nil {
			return nil, err
		}
		p.config, p.labels, p.maxLength = config, config.Labels, config.MaxLength
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, galley.Errorf(galley.FailedPrecondition, task.ConfigFile, "%w", err)
	}
	if sizes, ok := m.Metadata[encoderKey]; ok {
		p.encoder = &architecture.TextEncoder{}
		if err := json.Unmarshal([]byte(sizes), p.encoder); err != nil {
			return nil, galley.Errorf(galley.DataLoss, "from", "the model's metadata %s cannot be read: %w", encoderKey, err)
		}
	}
	return p, nil
}

// outsideLength is how many tokens a graph takes whose tokenizer does not say:
// as many as the encoders that most graphs hold.
const outsideLength = 512

func parentTokenizer(path string) (tokenizer, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, galley.Errorf(galley.FailedPrecondition, "from", "the model has no %s", task.TokenizerFile).
			WithRemedy("put the tokenizer.json that the model was trained with beside its graph")
	}
	if err != nil {
		return nil, galley.Errorf(galley.FailedPrecondition, task.TokenizerFile, "%w", err)
	}
	defer f.Close()
	return text.Load(f)
}

// classifier builds the graph of a classification job: new, or onto its
// parent.
func classifier(r engine.Request, p *parent, t tokenizer, rows dataset.Rows) (*graph.Model, task.Inputs, int, error) {
	spec, asked, classes := r.Spec, r.Spec.Architecture(), len(r.Data.Labels)
	own := task.DefaultInputs
	encoder := encoderOf(asked, t.VocabSize())
	ngrams := encoder.NGrams
	weighing, err := weigh(ngrams, t, asked.MaxLength, rows)
	if err != nil {
		return nil, own, 0, err
	}
	if p != nil && p.encoder == nil {
		m, err := architecture.Adopt(p.model, architecture.AdoptOptions{
			Features: asked.Features, Classes: classes, Dropout: asked.Dropout,
			NGrams: ngrams, Weighing: weighing, Seed: spec.Recipe.Seed,
		})
		if err != nil {
			return nil, own, 0, err
		}
		inherit(m, p.model, slices.Equal(p.labels, r.Data.Labels))
		outside, err := architecture.TextInputs(p.model)
		in := task.Inputs{IDs: outside.IDs, Mask: outside.Mask, Types: outside.Types}
		return m, in, min(asked.MaxLength, p.maxLength), err
	}
	if p != nil {
		encoder = *p.encoder
		encoder.NGrams, encoder.Dropout = ngrams, asked.Dropout
	}
	m, err := encoder.Classifier(classes, weighing, spec.Recipe.Seed)
	if err != nil {
		return nil, own, 0, err
	}
	if err := remember(m, encoder); err != nil {
		return nil, own, 0, err
	}
	if p != nil {
		inherit(m, p.model, slices.Equal(p.labels, r.Data.Labels))
	}
	return m, own, encoder.MaxLength, nil
}

// weigh counts the n-grams of the training texts; nil if there are none.
func weigh(n architecture.NGrams, t tokenizer, length int, rows dataset.Rows) (*architecture.Weighing, error) {
	if n.Orders == 0 {
		return nil, nil
	}
	s := t.Special()
	w := architecture.NewWeighing(n, t.VocabSize(), []int32{s.Pad, s.Unknown, s.Class, s.Separator, s.Mask})
	var ids []int32
	for i := range rows.Len() {
		row, err := rows.At(i)
		if err != nil {
			return nil, err
		}
		ids, _ = t.Encode(ids[:0], row.Text, length)
		w.Add(ids)
	}
	return w, nil
}

// remember writes the encoder's sizes into the graph.
func remember(m *graph.Model, encoder architecture.TextEncoder) error {
	sizes, err := json.Marshal(encoder)
	if err != nil {
		return err
	}
	m.Metadata[encoderKey] = string(sizes)
	return nil
}

// inherit takes over the parent's weights of the same name and shape; the
// head, and how the parent weighs its n-grams, only if it tells the same
// labels apart: the job then begins with the parent's answers. To other labels
// other n-grams matter, and they are weighed as the job's own texts have them.
func inherit(m, parent *graph.Model, head bool) {
	weights := map[string]*graph.Tensor{}
	for _, t := range parent.Graph.Initializers {
		weights[t.Name] = t
	}
	for i, t := range m.Graph.Initializers {
		// Only weights: constants of formulas have names by number, and the same
		// one may be another's in the parent.
		from, ok := weights[t.Name]
		if !ok || t.Type != graph.Float || from.Type != t.Type || !slices.Equal(from.Dims, t.Dims) || t.Size() <= 1 {
			continue
		}
		if architecture.IsConstant(t.Name) || !head && architecture.IsHead(t.Name) {
			continue
		}
		m.Graph.Initializers[i] = from
	}
	if head {
		architecture.InheritWeighing(m, parent)
	}
}

// newMaskedLM builds a pretraining job: new, or going on from a model of
// galley's own.
func newMaskedLM(r engine.Request, p *parent, t tokenizer) (*maskedLM, error) {
	m := &maskedLM{encoder: encoderOf(r.Spec.Architecture(), t.VocabSize()), tokenizer: t, recipe: r.Spec.Recipe}
	if p != nil {
		if p.encoder == nil {
			return nil, galley.Errorf(galley.InvalidArgument, "from", "the graph was not built by galley").
				WithRemedy("pretrain from scratch, or fine-tune the graph with task: text-classification")
		}
		m.encoder, m.parent = *p.encoder, p.model
		m.encoder.Dropout = r.Spec.Architecture().Dropout
	}
	m.encoder.NGrams = architecture.NGrams{}
	var err error
	m.masker, err = task.NewMasker(t, r.Spec.Recipe.MaskRate, r.Spec.Recipe.Seed)
	return m, err
}

// lookedUp returns the weights of a graph that Gather nodes read rows of:
// embedding tables, whose gradients are best added up row by row.
func lookedUp(m *graph.Model) []string {
	var names []string
	trainable := objective.Trainable(m)
	for _, n := range m.Graph.Nodes {
		if n.Op == "Gather" && slices.Contains(trainable, n.Inputs[0]) && !slices.Contains(names, n.Inputs[0]) {
			names = append(names, n.Inputs[0])
		}
	}
	return names
}
