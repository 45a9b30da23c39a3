package onnx_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/dataset"
	"galley/federation"
	"galley/internal/ort/orttest"
	graph "galley/onnx"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
	"galley/trainer/engine/onnx"
	"galley/trainer/objective"
)

// A row is a text with its label.
type row struct{ text, label string }

var topics = []string{"culture", "economy", "politics", "sport"}

// texts draws n rows: two words in three are of the topic's own, of which there
// are many, so that few rows do not show them all.
func texts(seed uint64, n int, of ...string) []row {
	r := rand.New(rand.NewPCG(seed, 17))
	word := func(from, many int) string {
		n := from + r.IntN(many)
		return string([]rune{rune('a' + n%26), rune('a' + n/26%26), rune('a' + n/676%26)})
	}
	rows := make([]row, n)
	for i := range rows {
		topic := of[r.IntN(len(of))]
		var words []string
		for range 6 + r.IntN(6) {
			if r.IntN(3) > 0 {
				words = append(words, word(1000*(1+slices.Index(topics, topic)), 120))
			} else {
				words = append(words, word(0, 200))
			}
		}
		rows[i] = row{strings.Join(words, " "), topic}
	}
	return rows
}

// A stock is rows as record files.
type stock struct {
	manifest *dataset.Manifest
	records  map[string]string
}

func frozen(t testing.TB, splits map[dataset.Split][]row) stock {
	t.Helper()
	dir := t.TempDir()
	columns, err := dataset.ParseColumns("text=text,label=label")
	if err != nil {
		t.Fatal(err)
	}
	input := func(split dataset.Split) *dataset.Input {
		if len(splits[split]) == 0 {
			return nil
		}
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		w.Write([]string{"text", "label"})
		for _, r := range splits[split] {
			w.Write([]string{r.text, r.label})
		}
		w.Flush()
		return &dataset.Input{Name: string(split), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }}
	}
	s := stock{records: map[string]string{}}
	s.manifest, _, err = dataset.Freeze(t.Context(), dataset.FreezeOptions{Name: "rows", Format: dataset.CSV, Columns: columns, NeedLabel: true},
		dataset.Inputs{Train: input(dataset.Train), Valid: input(dataset.Valid), Test: input(dataset.Test)},
		func(split dataset.Split) (io.Writer, error) {
			s.records[string(split)] = filepath.Join(dir, string(split))
			return os.Create(s.records[string(split)])
		})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// coordinators is what a coordinator has: few rows to begin with, and some to
// measure on.
func coordinators(t testing.TB) stock {
	return frozen(t, map[dataset.Split][]row{dataset.Train: texts(1, 120, topics...), dataset.Valid: texts(2, 200, topics...)})
}

func attempt(t testing.TB, r engine.Request) (engine.Result, error) {
	t.Helper()
	if r.WorkDir == "" {
		r.WorkDir = t.TempDir()
	}
	r.Job, r.Attempt = r.Spec.Name, 1
	return onnx.Driver{Opener: orttest.Opener(t)}.Train(t.Context(), r, func(engine.Event) {})
}

func mustTrain(t testing.TB, r engine.Request) engine.Result {
	t.Helper()
	result, err := attempt(t, r)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// begun is the classifier that rounds begin with.
func begun(t testing.TB, data stock, sets ...string) engine.Result {
	t.Helper()
	spec, problems := trainer.ParseFile([]byte(`
apiVersion: galley/v1
kind: Train
name: topics
task: text-classification
data: {dataset: rows}
model: {layers: 1, hidden: 16, heads: 2, feed_forward: 32, max_length: 16, vocabulary: 600, min_frequency: 1, dropout: 0.1, ngrams: {orders: 2, buckets: 2048, width: 8}}
recipe: {epochs: 1, token_dropout: 0.1}
resources: {cpus: 1}
`), sets)
	if problems != nil {
		t.Fatal(problems)
	}
	return mustTrain(t, engine.Request{Spec: spec, Data: data.manifest, Records: data.records})
}

// locally is a partner's request of a round.
func locally(t testing.TB, data stock, parent string, round int, mu float64, change func(*trainer.Recipe)) engine.Request {
	t.Helper()
	job, problems := trainer.ParseFile([]byte(`
apiVersion: galley/v1
kind: Federate
name: topics
data: {dataset: rows}
from: topics@1
purpose: topics of texts
recipe: {batch_size: 8, epochs: 2, optimizer: {lr: 3e-3}, checkpoint_every: 7}
`), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	if change != nil {
		change(&job.Recipe)
	}
	recipe, err := job.LocalRecipe()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := trainer.Local("topics", "rows", round, recipe)
	if err != nil {
		t.Fatal(err)
	}
	spec.Resources.CPUs = 1
	return engine.Request{Spec: spec, Data: data.manifest, Records: data.records, Parent: parent, Federated: &engine.Federated{Mu: mu}}
}

func readModel(t testing.TB, folder string) *graph.Model {
	t.Helper()
	m, err := graph.ReadFile(filepath.Join(folder, task.ModelFile), graph.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// exchanged are the federated weights of a bundle, in the layout's order.
func exchanged(t testing.TB, folder string) ([]*graph.Tensor, federation.Layout) {
	t.Helper()
	weights, err := objective.Federated(readModel(t, folder))
	if err != nil {
		t.Fatal(err)
	}
	l, err := federation.LayoutOf(weights)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(weights, func(a, b *graph.Tensor) int { return strings.Compare(a.Name, b.Name) })
	return weights, l
}

// update is what a partner sends of its training.
func update(t testing.TB, w io.Writer, before, after string) federation.Finding {
	t.Helper()
	from, layout := exchanged(t, before)
	to, same := exchanged(t, after)
	if layout.Digest() != same.Digest() {
		t.Fatalf("training changed the layout: %v became %v", layout, same)
	}
	values := func(weights []*graph.Tensor) (out [][]float32) {
		for _, w := range weights {
			v, _ := w.Floats()
			out = append(out, v)
		}
		return out
	}
	f, err := federation.WriteUpdate(w, layout, values(from), values(to), 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// aggregated puts the next weights into a copy of the parent's bundle.
func aggregated(t testing.TB, parent string, trained []engine.Result, rows []int64) string {
	t.Helper()
	weights, layout := exchanged(t, parent)
	var base, next bytes.Buffer
	if _, err := federation.WriteTensors(&base, weights); err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, n := range rows {
		total += n
	}
	var parts []federation.Part
	sent := map[galley.Digest][]byte{}
	for i, r := range trained {
		var b bytes.Buffer
		f := update(t, &b, parent, r.Bundle)
		sent[f.Digest] = b.Bytes()
		parts = append(parts, federation.Part{Partner: string(rune('a' + i)), Update: f.Digest, Share: float64(rows[i]) / float64(total), Scale: 1})
	}
	if _, err := federation.Aggregate(&next, layout, &base, parts, func(d galley.Digest) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(sent[d])), nil
	}); err != nil {
		t.Fatal(err)
	}
	m := readModel(t, parent)
	into, err := objective.Federated(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := federation.ReadTensors(&next, into); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(parent)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, task.ModelFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := graph.WriteFile(filepath.Join(dir, task.ModelFile), m, graph.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// settled makes the version of a parent's weights.
func settled(t testing.TB, data stock, parent string) (engine.Result, error) {
	spec := trainer.Spec{Kind: trainer.KindFederate, Name: "topics", Task: trainer.TextClassification}
	spec.Recipe.BatchSize, spec.Recipe.Seed = 32, 1
	return attempt(t, engine.Request{Spec: spec, Data: data.manifest, Records: data.records, Parent: parent})
}

// Three partners, none of which has rows of all topics, learn together what
// none of them learns alone.
func TestFederatedLearning(t *testing.T) {
	if testing.Short() {
		t.Skip("trains fifteen small models")
	}
	data := coordinators(t)
	first := begun(t, data)
	partners := []stock{
		frozen(t, map[dataset.Split][]row{dataset.Train: texts(11, 300, "culture", "economy")}),
		frozen(t, map[dataset.Split][]row{dataset.Train: texts(12, 200, "politics", "economy")}),
		frozen(t, map[dataset.Split][]row{dataset.Train: texts(13, 250, "sport", "politics"), dataset.Valid: texts(14, 50, "sport")}),
	}
	rows := []int64{300, 200, 250}
	const rounds = 3
	folder := first.Bundle
	for round := 1; round <= rounds; round++ {
		var trained []engine.Result
		for _, p := range partners {
			trained = append(trained, mustTrain(t, locally(t, p, folder, round, 0, nil)))
		}
		folder = aggregated(t, folder, trained, rows)
	}
	together, err := settled(t, data, folder)
	if err != nil {
		t.Fatal(err)
	}
	before, err := settled(t, data, first.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("begun with %.3f, together %.3f", before.Metrics["accuracy"], together.Metrics["accuracy"])
	for i, p := range partners {
		alone := first.Bundle
		for round := 1; round <= rounds; round++ {
			alone = mustTrain(t, locally(t, p, alone, round, 0, nil)).Bundle
		}
		result, err := settled(t, data, alone)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("partner %d alone %.3f", i, result.Metrics["accuracy"])
		if !(together.Metrics["accuracy"] > result.Metrics["accuracy"]+0.05) {
			t.Errorf("together %v, partner %d alone %v", together.Metrics, i, result.Metrics)
		}
	}
	if !(together.Metrics["accuracy"] > before.Metrics["accuracy"]+0.05) {
		t.Errorf("begun with %v, ended with %v", before.Metrics, together.Metrics)
	}
}

// What is not exchanged stays to the bit, whatever the partner's texts and the
// order and number of its labels, and all partners' updates have one layout.
func TestFederatedKeepsTheRest(t *testing.T) {
	data := coordinators(t)
	ngrams := begun(t, data)
	adopted := locally(t, data, outsideGraph(t, ngrams.Bundle), 1, 0, nil)
	adopted.Federated = nil
	partner := frozen(t, map[dataset.Split][]row{dataset.Train: texts(5, 40, "sport", "economy")})
	for name, parent := range map[string]engine.Result{
		"n-grams": ngrams, "no n-grams": begun(t, data, "model.ngrams={orders: 0}"), "an outside graph": mustTrain(t, adopted),
	} {
		t.Run(name, func(t *testing.T) {
			result := mustTrain(t, locally(t, partner, parent.Bundle, 1, 0.01, nil))
			weights, _ := exchanged(t, parent.Bundle)
			names := map[string]bool{}
			for _, w := range weights {
				names[w.Name] = true
			}
			before, after := readModel(t, parent.Bundle), readModel(t, result.Bundle)
			if len(before.Graph.Initializers) != len(after.Graph.Initializers) || len(before.Graph.Nodes) != len(after.Graph.Nodes) || !maps.Equal(before.Metadata, after.Metadata) {
				t.Fatal("training changed the graph")
			}
			for i, w := range before.Graph.Initializers {
				got := after.Graph.Initializers[i]
				if got.Name != w.Name || got.Type != w.Type || !slices.Equal(got.Dims, w.Dims) {
					t.Fatalf("%s %v became %s %v", w.Name, w.Dims, got.Name, got.Dims)
				}
				if same := bytes.Equal(got.Data, w.Data); same == names[w.Name] {
					t.Errorf("%s: exchanged %v, the same %v", w.Name, names[w.Name], same)
				}
			}
			for _, file := range []string{task.ConfigFile, task.TokenizerFile} {
				want, err := os.ReadFile(filepath.Join(parent.Bundle, file))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(filepath.Join(result.Bundle, file)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s is another: %v", file, err)
				}
			}
			if !(update(t, io.Discard, parent.Bundle, result.Bundle).Norm > 0) {
				t.Error("nothing was learnt")
			}
		})
	}
}

// outsideGraph is the folder of a graph that galley did not build.
func outsideGraph(t *testing.T, bundle string) string {
	t.Helper()
	m := readModel(t, bundle)
	table := m.Graph.Initializer("embeddings.tokens")
	b := graph.NewBuilder(&graph.Graph{Name: "outside"})
	shape := graph.Shape{graph.Symbol("batch"), graph.Symbol("length")}
	ids := b.Input("input_ids", graph.Int64, shape)
	b.Input("attention_mask", graph.Int64, shape)
	states := b.Op("Gather", b.Weight(table), ids)
	b.Output(states, graph.Float, graph.Shape{shape[0], shape[1], {Size: table.Dims[1]}})
	dir := t.TempDir()
	if err := graph.WriteFile(filepath.Join(dir, task.ModelFile), &graph.Model{IRVersion: m.IRVersion, Opsets: m.Opsets, Graph: b.Graph}, graph.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	tokenizer, err := os.ReadFile(filepath.Join(bundle, task.TokenizerFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, task.TokenizerFile), tokenizer, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The nearer a proximal term holds, the shorter the update.
func TestProximalTermHolds(t *testing.T) {
	data := coordinators(t)
	first := begun(t, data)
	partner := frozen(t, map[dataset.Split][]row{dataset.Train: texts(6, 120, "sport", "culture")})
	norms := make([]float64, 3)
	for i, mu := range []float64{0, 1, 1000} {
		r := locally(t, partner, first.Bundle, 1, mu, func(r *trainer.Recipe) { r.Optimizer.WeightDecay = 0 })
		norms[i] = update(t, io.Discard, first.Bundle, mustTrain(t, r).Bundle).Norm
	}
	t.Logf("norms %v", norms)
	if !(norms[1] < 0.8*norms[0] && norms[2] < 0.2*norms[0]) {
		t.Errorf("norms %v of mu 0, 1 and 1000", norms)
	}
}

// The last step's weights are the result, and the metrics are of them, though
// an earlier step was better: on a split that has one topic alone.
func TestFederatedResultIsTheLastStep(t *testing.T) {
	first := begun(t, coordinators(t))
	train := append(texts(6, 79, "sport", "culture"), row{"one of the economy", "economy"})
	partner := frozen(t, map[dataset.Split][]row{dataset.Train: train, dataset.Valid: texts(7, 60, "economy")})
	r := locally(t, partner, first.Bundle, 1, 0, func(r *trainer.Recipe) { r.EarlyStop, r.ValidateEvery = 1, 3 })
	r.WorkDir = t.TempDir()
	validated := 0
	result, err := onnx.Driver{Opener: orttest.Opener(t)}.Train(t.Context(), r, func(e engine.Event) {
		if e.Kind == engine.Validated {
			validated++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Steps != 20 || result.BestStep != 20 || validated != 1 {
		t.Errorf("%+v, validated %d times", result, validated)
	}
	if a := result.Metrics["accuracy"]; !(a < 0.5) {
		t.Errorf("who has hardly seen economy tells it: %v", a)
	}
	// Without such a split there are no metrics, and the same weights.
	r.Data, r.Records, r.WorkDir = frozen(t, map[dataset.Split][]row{dataset.Train: train}).manifest, map[string]string{"train": r.Records["train"]}, t.TempDir()
	alone := mustTrain(t, r)
	a, _ := os.ReadFile(filepath.Join(alone.Bundle, task.ModelFile))
	if b, err := os.ReadFile(filepath.Join(result.Bundle, task.ModelFile)); err != nil || !bytes.Equal(a, b) || alone.Metrics != nil {
		t.Errorf("other weights, or metrics of nothing: %v %v", alone.Metrics, err)
	}
}

// A partner's training goes on from its checkpoints to the same bits, and not
// from those of another round.
func TestFederatedGoesOn(t *testing.T) {
	first := begun(t, coordinators(t))
	partner := frozen(t, map[dataset.Split][]row{dataset.Train: texts(6, 150, "sport", "culture"), dataset.Valid: texts(7, 60, "sport")})
	bits := func(r engine.Result) []byte {
		data, err := os.ReadFile(filepath.Join(r.Bundle, task.ModelFile))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	want := mustTrain(t, locally(t, partner, first.Bundle, 1, 0.1, nil))
	r := locally(t, partner, first.Bundle, 1, 0.1, nil)
	r.WorkDir = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := onnx.Driver{Opener: orttest.Opener(t)}.Train(ctx, r, func(e engine.Event) {
		if e.Kind == engine.Checkpointed && e.Step >= 7 {
			cancel()
		}
	})
	if galley.CodeOf(err) != galley.Canceled {
		t.Fatal(err)
	}
	began := -1
	result, err := onnx.Driver{Opener: orttest.Opener(t)}.Train(t.Context(), r, func(e engine.Event) {
		if e.Kind == engine.Started {
			began = e.Step
		}
	})
	if err != nil || began < 7 || !bytes.Equal(bits(result), bits(want)) {
		t.Errorf("went on from step %d to other weights: %v", began, err)
	}
	// The work folder is used again, for the same spec and other weights.
	other := locally(t, partner, want.Bundle, 1, 0.1, nil)
	fresh := mustTrain(t, other)
	other.WorkDir = r.WorkDir
	if !bytes.Equal(bits(mustTrain(t, other)), bits(fresh)) {
		t.Error("another round's checkpoint was gone on from")
	}
}

func TestFederatedRefuses(t *testing.T) {
	data := coordinators(t)
	first := begun(t, data)
	partner := frozen(t, map[dataset.Split][]row{dataset.Train: append(texts(6, 30, "sport"), row{"a text of the weather", "weather"})})
	narrow := t.TempDir()
	if err := os.CopyFS(narrow, os.DirFS(first.Bundle)); err != nil {
		t.Fatal(err)
	}
	m := readModel(t, first.Bundle)
	table := m.Graph.Initializer("embeddings.tokens")
	table.Type, table.Data = graph.Int8, make([]byte, table.Size())
	if err := graph.WriteFile(filepath.Join(narrow, task.ModelFile), m, graph.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(r *engine.Request)
		want   string
	}{
		{"another label", func(r *engine.Request) { r.Data, r.Records = partner.manifest, partner.records },
			`data: label "weather" is not one of the model's: culture, economy, politics, sport — leave its rows out, or give them a label that the model has`},
		{"no parent", func(r *engine.Request) { r.Parent = "" }, "from: is missing — a round begins with a model's weights"},
		{"an outside graph", func(r *engine.Request) { r.Parent = outsideGraph(t, first.Bundle) },
			"from: is no classifier of galley's — train a classifier from it first, with kind: Train, and federate that"},
		{"fewer bits", func(r *engine.Request) { r.Parent = narrow }, "name the version that it was made of: weights that are federated are float"},
		{"NaN", func(r *engine.Request) { r.Federated.Mu = math.NaN() }, "mu: NaN is out of range — give a number from 0 to 1000"},
		{"another task", func(r *engine.Request) { r.Spec.Task = trainer.TextMLM }, "task: text-mlm models are not federated"},
	} {
		r := locally(t, data, first.Bundle, 1, 0, nil)
		c.change(&r)
		if _, err := attempt(t, r); err == nil || !strings.Contains(err.Error(), c.want) || galley.AsError(err).Remedy == "" {
			t.Errorf("%s: %v", c.name, err)
		}
		r.Spec.Kind = trainer.KindFederate
		if _, err := attempt(t, r); c.name != "NaN" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, settled: %v", c.name, err)
		}
	}
}

// Settling changes the blend alone, as well as the coordinator's validation
// rows tell.
func TestSettle(t *testing.T) {
	data := coordinators(t)
	first := begun(t, data, "recipe.epochs=6")
	r := locally(t, data, first.Bundle, 1, 0, nil)
	trained := mustTrain(t, r)
	result, err := settled(t, data, trained.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	before, after := readModel(t, trained.Bundle), readModel(t, result.Bundle)
	var changed []string
	for i, w := range before.Graph.Initializers {
		if !bytes.Equal(w.Data, after.Graph.Initializers[i].Data) {
			changed = append(changed, w.Name)
		}
	}
	if !slices.Equal(changed, []string{"blend.encoder", "blend.ngrams"}) {
		t.Errorf("settling changed %v", changed)
	}
	if a, was := result.Metrics["accuracy"], trained.Metrics["accuracy"]; a < was-0.02 || result.Metrics["loss"] > trained.Metrics["loss"]+1e-6 || result.Steps != 0 {
		t.Errorf("%+v, and before %+v", result, trained.Metrics)
	}
	// Settled once more it is the same, to the bit.
	again, err := settled(t, data, result.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(filepath.Join(again.Bundle, task.ModelFile))
	if b, err := os.ReadFile(filepath.Join(result.Bundle, task.ModelFile)); err != nil || !bytes.Equal(a, b) || !maps.Equal(again.Metrics, result.Metrics) {
		t.Errorf("%v %v %v", again.Metrics, result.Metrics, err)
	}
	// Without a validation split the blend stays.
	bare := stock{data.manifest, map[string]string{"train": data.records["train"]}}
	kept, err := settled(t, bare, trained.Bundle)
	if err != nil || kept.Metrics != nil {
		t.Fatal(err, kept.Metrics)
	}
	a, _ = os.ReadFile(filepath.Join(kept.Bundle, task.ModelFile))
	if b, err := os.ReadFile(filepath.Join(trained.Bundle, task.ModelFile)); err != nil || !bytes.Equal(a, b) {
		t.Error("the model is another", err)
	}
}
