package distill

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/dataset"
	"galley/feature/text"
	"galley/onnx"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer/architecture"
	"galley/trainer/engine"
)

// A classroom opens the graphs of teachers, and counts: graphs that were opened
// and are not closed, and texts that were put to them.
type classroom struct {
	opened, open, texts int
	fail                error
}

func (c *classroom) Open(_ context.Context, model []byte, _ session.Options) (session.Session, error) {
	m, err := onnx.Unmarshal(model, onnx.ReadOptions{})
	return c.graph(m, err)
}

func (c *classroom) OpenFile(_ context.Context, path string, _ session.Options) (session.Session, error) {
	m, err := onnx.ReadFile(path, onnx.ReadOptions{})
	return c.graph(m, err)
}

func (c *classroom) Runtime() string { return "classroom 1" }

func (c *classroom) graph(m *onnx.Model, err error) (session.Session, error) {
	if err == nil {
		err = c.fail
	}
	if err != nil {
		return nil, err
	}
	c.opened++
	c.open++
	return &lesson{classroom: c, graph: m.Graph}, nil
}

// A lesson answers each output of a graph by the sum of a text's ids.
type lesson struct {
	*classroom
	graph *onnx.Graph
}

func (l *lesson) Inputs() []onnx.Value           { return l.graph.Inputs }
func (l *lesson) Outputs() []onnx.Value          { return l.graph.Outputs }
func (l *lesson) Bind() (session.Binding, error) { return nil, errors.ErrUnsupported }
func (l *lesson) Bytes() int64                   { return 0 }
func (l *lesson) Close() error                   { l.open--; return nil }

func (l *lesson) Run(_ context.Context, in map[string]*session.Tensor, names ...string) (map[string]*session.Tensor, error) {
	ids, shape := session.Data[int64](in[architecture.InputIDs]), in[architecture.InputIDs].Shape
	l.texts += int(shape[0])
	out := map[string]*session.Tensor{}
	for _, v := range l.graph.Outputs {
		if !slices.Contains(names, v.Name) {
			continue
		}
		width := int(v.Shape[1].Size)
		var rows []float32
		for i := range int(shape[0]) {
			sum := int64(0)
			for _, id := range ids[i*int(shape[1]) : (i+1)*int(shape[1])] {
				sum += id
			}
			for j := range width {
				rows = append(rows, said(sum, j, v.Name == architecture.Logits))
			}
		}
		var err error
		if out[v.Name], err = session.New(rows, shape[0], int64(width)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// said is number j of an answer to a text.
func said(ids int64, j int, logits bool) float32 {
	if logits {
		return float32(math.Sin(float64(ids) + 2*float64(j)))
	}
	return float32(ids) + float32(j)/100
}

// headlines are rows without labels.
type headlines []string

func (h headlines) Len() int                      { return len(h) }
func (h headlines) At(i int) (dataset.Row, error) { return dataset.Row{Text: h[i]}, nil }

var (
	labelled   = headlines{"rates rise again", "a late goal", "the bank holds its rates", "the coach leaves", "shares fall", "a match is off", "央行维持利率不变"}
	unlabelled = headlines{"the striker scores twice", "shares of the bank rise"}
)

// graduate is a teacher: its own vocabulary, width and order of labels.
func graduate(t *testing.T, ref string, model text.Model, hidden int, labels ...string) (engine.Teacher, *text.Tokenizer) {
	t.Helper()
	tokenizer, err := text.Train(t.Context(), slices.Values(labelled), text.TrainOptions{Model: model, VocabSize: 90 + hidden, MinFrequency: 1, Lowercase: true, MaxLength: 16})
	if err != nil {
		t.Fatal(err)
	}
	sizes := architecture.TextEncoder{Layers: 1, Hidden: hidden, Heads: 2, FeedForward: 2 * hidden, MaxLength: 16, Vocabulary: tokenizer.VocabSize()}
	m, err := sizes.Classifier(len(labels), nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "bundle")
	config := &task.Config{Format: task.ConfigFormat, Task: task.TextClassification, Labels: labels, MaxLength: 16, Inputs: task.DefaultInputs, Outputs: task.DefaultOutputs}
	if err := task.WriteBundle(dir, m, config, tokenizer); err != nil {
		t.Fatal(err)
	}
	return engine.Teacher{Ref: ref, Digest: galley.DigestBytes([]byte(ref)), Folder: dir}, tokenizer
}

// ask prepares what a student learns from; the notes of it are joined.
func (c *classroom) ask(t *testing.T, o Options) (targets *Targets, notes string) {
	t.Helper()
	c.opened, c.texts = 0, 0
	o.Opener = c
	o.Note = func(message string) { notes += message + "\n" }
	targets, err := Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { targets.Close() })
	if c.open != 0 {
		t.Errorf("%d graphs are left open", c.open)
	}
	return targets, notes
}

// Two teachers of other vocabularies, widths and orders of labels are asked
// about each text once; whoever comes later reads what they said.
func TestPrepare(t *testing.T) {
	const temperature = 2
	wide, words := graduate(t, "wide@1", text.WordPiece, 16, "money", "sport", "culture")
	narrow, characters := graduate(t, "narrow@1", text.Character, 8, "culture", "money", "sport")
	all, texts := slices.Concat(labelled, unlabelled), len(labelled)+len(unlabelled)
	var room classroom
	o := Options{
		Teachers: []engine.Teacher{wide, narrow}, Labels: []string{"sport", "money", "culture"}, Temperature: temperature,
		Texts:   []Text{{Rows: labelled, Digest: "sha256:a"}, {Rows: unlabelled, Digest: "sha256:b"}},
		WorkDir: t.TempDir(), Cache: t.TempDir(), Threads: 1,
	}
	sum := func(tokenizer *text.Tokenizer, s string) (sum int64) {
		ids, _ := tokenizer.Encode(nil, s, 16)
		for _, id := range ids {
			sum += int64(id)
		}
		return sum
	}
	hold := func(targets *Targets, temperature float64) {
		t.Helper()
		row := make([]float32, 3+targets.Hidden)
		for i, s := range all {
			if err := targets.Row(row, i); err != nil {
				t.Fatal(err)
			}
			want := make([]float64, 3)
			for _, one := range []struct {
				ids    int64
				places []int
			}{{sum(words, s), []int{1, 0, 2}}, {sum(characters, s), []int{2, 1, 0}}} {
				total := 0.0
				for j := range want {
					total += math.Exp(float64(said(one.ids, j, true)) / temperature)
				}
				for j, place := range one.places {
					want[j] += math.Exp(float64(said(one.ids, place, true))/temperature) / total / 2
				}
			}
			for j := range want {
				if math.Abs(float64(row[j])-want[j]) > 1e-6 {
					t.Errorf("row %d: %v, want %v", i, row[:3], want)
				}
			}
			for j := range targets.Hidden {
				if want := said(sum(words, s), j, false); row[3+j] != want {
					t.Errorf("row %d: hidden state %d is %v, want %v", i, j, row[3+j], want)
				}
			}
		}
	}

	targets, notes := room.ask(t, o)
	if room.texts != 2*texts || room.opened != 2 || notes != "wide@1 was asked about 9 texts; the answers to 0 were there\nnarrow@1 was asked about 9 texts; the answers to 0 were there\n" {
		t.Errorf("%d texts were put to %d graphs: %s", room.texts, room.opened, notes)
	}
	hold(targets, temperature)

	// Neither the next attempt nor another job asks again.
	if targets, notes = room.ask(t, o); room.texts+room.opened != 0 || notes != "" {
		t.Errorf("the next attempt put %d texts: %s", room.texts, notes)
	}
	hold(targets, temperature)
	other := o
	other.WorkDir, other.Temperature = t.TempDir(), 5
	if targets, notes = room.ask(t, other); room.texts+room.opened != 0 || strings.Count(notes, "was asked about 0 texts; the answers to 9 were there") != 2 {
		t.Errorf("another job put %d texts: %s", room.texts, notes)
	}
	hold(targets, 5)

	// More rows are asked about alone, and so is another teacher.
	other.WorkDir = t.TempDir()
	other.Texts = append(slices.Clone(o.Texts), Text{Rows: headlines{"one more"}, Digest: "sha256:c"})
	if _, _ = room.ask(t, other); room.texts != 2 {
		t.Errorf("of one more row %d texts were put", room.texts)
	}
	other.WorkDir, other.Texts = t.TempDir(), o.Texts
	third := narrow
	third.Ref, third.Digest = "third@1", "sha256:third"
	other.Teachers = []engine.Teacher{wide, narrow, third}
	if _, notes = room.ask(t, other); room.texts != texts || room.opened != 1 || !strings.HasSuffix(notes, "third@1 was asked about 9 texts; the answers to 0 were there\n") {
		t.Errorf("of one more teacher %d texts were put: %s", room.texts, notes)
	}

	// The first one's hidden state is another answer of it; the second one's are
	// those that it gave.
	hidden := o
	hidden.WorkDir, hidden.Hidden = t.TempDir(), true
	if targets, _ = room.ask(t, hidden); room.texts != texts || targets.Hidden != 32 { // mean and maximum of 16
		t.Errorf("%d texts were put, for a state of %d", room.texts, targets.Hidden)
	}
	hold(targets, temperature)

	// Without a cache for all, answers lie with the job.
	alone := o
	alone.WorkDir, alone.Cache = t.TempDir(), ""
	if room.ask(t, alone); room.texts != 2*texts {
		t.Errorf("%d texts were put", room.texts)
	}
	if err := os.Remove(filepath.Join(alone.WorkDir, targetsFile)); err != nil {
		t.Fatal(err)
	}
	if room.ask(t, alone); room.texts != 0 {
		t.Errorf("%d texts were put again", room.texts)
	}
}

func TestPrepareRefuses(t *testing.T) {
	good, tokenizer := graduate(t, "good@1", text.WordPiece, 16, "money", "sport")
	masked := filepath.Join(t.TempDir(), "bundle")
	sizes := architecture.TextEncoder{Layers: 1, Hidden: 8, Heads: 2, FeedForward: 16, MaxLength: 16, Vocabulary: tokenizer.VocabSize()}
	m, err := sizes.MaskedLM(false, 1)
	if err != nil {
		t.Fatal(err)
	}
	config := &task.Config{Format: task.ConfigFormat, Task: task.TextMLM, MaxLength: 16, Inputs: task.DefaultInputs, Outputs: task.Outputs{Logits: architecture.TokenLogits}}
	if err := task.WriteBundle(masked, m, config, tokenizer); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Options, *classroom)
		code   galley.Code
		want   string
	}{
		"other labels": {func(o *Options, _ *classroom) { o.Labels = []string{"money", "weather"} }, galley.FailedPrecondition,
			`teachers: good@1 tells other labels apart than the data: it does not know "weather", and the data do not have its "sport" — teacher and student need the same labels`},
		"no classifier": {func(o *Options, _ *classroom) {
			o.Teachers = append(o.Teachers, engine.Teacher{Ref: "base@1", Folder: masked})
		}, galley.FailedPrecondition, "teachers: base@1 is a text-mlm model, and a teacher is a text classifier — choose a version of task text-classification"},
		"no files": {func(o *Options, _ *classroom) { o.Teachers[0].Folder += "s" }, galley.NotFound,
			"teachers: good@1 cannot be opened: "},
		"no room": {func(_ *Options, c *classroom) {
			c.fail = galley.Errorf(galley.ResourceExhausted, "teacher", "is too large")
		}, galley.ResourceExhausted,
			"teachers: good@1 cannot answer: teacher: is too large"},
		"too many rows": {func(o *Options, _ *classroom) { o.Texts[0].Rows = texts(3_000_000_000) }, galley.ResourceExhausted,
			"teachers: their answers to 3000000000 rows, 2 numbers each, take 22 GiB, more than 16 GiB — choose a smaller part of the rows: data.fraction"},
		"damaged rows": {func(o *Options, _ *classroom) { o.Texts[0].Rows = torn{} }, galley.DataLoss, "row 0 is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			var room classroom
			o := Options{
				Teachers: []engine.Teacher{good}, Labels: []string{"sport", "money"}, Temperature: 1, Texts: []Text{{Rows: labelled, Digest: "sha256:a"}},
				WorkDir: t.TempDir(), Opener: &room, Threads: 1, Note: func(string) {},
			}
			c.change(&o, &room)
			_, err := Prepare(t.Context(), o)
			if galley.CodeOf(err) != c.code || !strings.Contains(fmt.Sprint(err), c.want) || room.open != 0 {
				t.Errorf("%v, and %d graphs are open", err, room.open)
			}
		})
	}
}

// torn is a row that cannot be read.
type torn struct{}

func (torn) Len() int { return 1 }
func (torn) At(i int) (dataset.Row, error) {
	return dataset.Row{}, galley.Errorf(galley.DataLoss, "data", "row %d is damaged", i)
}
