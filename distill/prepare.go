package distill

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"galley"
	"galley/dataset"
	"galley/onnx"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer/engine"
)

// targetsFile is the file of a job's targets, below its work folder;
// answersFolder is where answers lie if there is no cache.
const (
	targetsFile   = "targets"
	answersFolder = "answers"
)

// noteEvery is how often it is told how far a teacher has come.
const noteEvery = 5 * time.Second

// A Text is one file of rows that teachers are asked about.
type Text struct {
	Rows     dataset.Rows
	Digest   galley.Digest // of the record file
	Fraction float64       // of its rows, chosen by Seed, that Rows are; 0 for all
	Seed     uint64
}

// Options say whose answers to which texts a student learns from.
type Options struct {
	Teachers    []engine.Teacher
	Texts       []Text
	Labels      []string // of the student
	Temperature float64
	Hidden      bool   // also the first teacher's hidden state
	Cache       string // for answers, shared with others; WorkDir's if empty
	WorkDir     string // the job's own, for the targets
	Opener      session.Opener
	Threads     int
	Note        func(message string) // told what is done, and now and then how far
}

// Prepare returns what the student learns from, row by row in the order of the
// texts. No teacher is asked what a whole file has.
func Prepare(ctx context.Context, o Options) (*Targets, error) {
	rows := 0
	for _, t := range o.Texts {
		rows += t.Rows.Len()
	}
	hidden := 0
	var members []Member
	var of [][]Of
	var places [][]int
	for k, t := range o.Teachers {
		s, err := o.open(t, o.Hidden && k == 0)
		if err != nil {
			return nil, err
		}
		defer s.close()
		hidden += s.width
		if err := CheckSize(rows, len(o.Labels)+s.width); err != nil {
			return nil, err
		}
		member := Member{Places: s.places, Ask: s.ask, close: s.close}
		names := make([]Of, len(o.Texts))
		for i, text := range o.Texts {
			names[i] = Of{Teacher: t.Digest, Rows: text.Digest, Fraction: text.Fraction, Seed: text.Seed, Hidden: s.width > 0, Runtime: o.Opener.Runtime(), Threads: o.Threads}
			member.Answers = append(member.Answers, NewAnswers(o.folder(), names[i], text.Rows, len(o.Labels)+s.width))
		}
		members, of, places = append(members, member), append(of, names), append(places, s.places)
	}
	name, path := TargetsOf(of, places, o.Temperature), filepath.Join(o.WorkDir, targetsFile)
	if t, err := OpenTargets(path, name, rows, len(o.Labels), hidden); err == nil {
		return t, nil
	}
	for k, m := range members {
		if err := o.complete(ctx, o.Teachers[k], m); err != nil {
			return nil, err
		}
	}
	if err := WriteTargets(ctx, path, name, members, len(o.Labels), o.Temperature); err != nil {
		return nil, err
	}
	return OpenTargets(path, name, rows, len(o.Labels), hidden)
}

func (o Options) folder() string {
	if o.Cache != "" {
		return o.Cache
	}
	return filepath.Join(o.WorkDir, answersFolder)
}

// complete has a teacher answer what no file has.
func (o Options) complete(ctx context.Context, t engine.Teacher, m Member) error {
	asked, done, rows, began := 0, 0, 0, time.Now()
	for _, a := range m.Answers {
		rows += a.rows.Len()
	}
	for _, a := range m.Answers {
		for i := range a.Segments() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if done += a.segmentRows(i); a.Has(i) {
				continue
			}
			if _, err := a.Segment(ctx, i, m.Ask); err != nil {
				return err
			}
			if asked += a.segmentRows(i); time.Since(began) > noteEvery {
				o.Note(fmt.Sprintf("%s has answered %d of %d texts", t.Ref, done, rows))
				began = time.Now()
			}
		}
		if a.Segments() > 0 {
			a.touch()
		}
	}
	o.Note(fmt.Sprintf("%s was asked about %d texts; the answers to %d were there", t.Ref, asked, rows-asked))
	m.close()
	return nil
}

// A teacher's graph is open from the first question until it is closed.
type teacher struct {
	name       string
	bundle     *task.Bundle
	classifier *task.TextClassifier
	places     []int
	graph      *onnx.Model // with its hidden state as an output; nil if that is not wanted
	hidden     string
	width      int
	opener     session.Opener
	threads    int
	session    session.Session
	predictor  *task.TextPredictor
}

// open checks that a teacher has something to say to the student, and finds its
// hidden state if that is wanted.
func (o Options) open(t engine.Teacher, hidden bool) (*teacher, error) {
	bundle, err := task.OpenBundleDir(t.Folder)
	if err != nil {
		return nil, galley.Errorf(galley.CodeOf(err), "teachers", "%s cannot be opened: %w", t.Ref, err).
			WithRemedy("a teacher is a text classifier: a version that galley trained, or one imported with its labels and its tokenizer")
	}
	if bundle.Config.Task != task.TextClassification {
		return nil, NoClassifier(t.Ref, string(bundle.Config.Task))
	}
	classifier, err := task.NewTextClassifier(bundle.Config, bundle.Tokenizer)
	if err != nil {
		return nil, err
	}
	places, err := Align(t.Ref, bundle.Config.Labels, o.Labels)
	if err != nil {
		return nil, err
	}
	out := &teacher{name: t.Ref, bundle: bundle, classifier: classifier, places: places, opener: o.Opener, threads: o.Threads}
	if !hidden {
		return out, nil
	}
	return out, out.show()
}

// show makes the hidden state an output of the teacher's graph.
func (t *teacher) show() error {
	m, err := onnx.ReadFile(t.bundle.ModelPath(), onnx.ReadOptions{})
	if err != nil {
		return err
	}
	state, err := HiddenValue(t.name, m, t.bundle.Config.Outputs.Logits)
	if err != nil {
		return err
	}
	m.Graph.Outputs = append(m.Graph.Outputs, state)
	t.graph, t.hidden, t.width = m, state.Name, int(state.Shape[1].Size)
	return nil
}

// load opens the teacher's graph.
func (t *teacher) load(ctx context.Context) (session.Session, error) {
	o := session.Options{Threads: t.threads, NoMemoryPattern: true, Label: "teacher"}
	if t.graph == nil {
		return t.opener.OpenFile(ctx, t.bundle.ModelPath(), o)
	}
	data, err := onnx.Marshal(t.graph)
	if err != nil {
		return nil, err
	}
	return t.opener.Open(ctx, data, o)
}

// NoClassifier is the error of a teacher whose task is another.
func NoClassifier(ref, kind string) error {
	what := "has no task"
	if kind != "" {
		what = "is a " + kind + " model"
	}
	return galley.Errorf(galley.FailedPrecondition, "teachers", "%s %s, and a teacher is a text classifier", ref, what).
		WithRemedy("choose a version of task %s; galley models import takes others' classifiers with their labels and tokenizer", task.TextClassification)
}

// ask implements Ask.
func (s *teacher) ask(ctx context.Context, texts []string) ([]float32, error) {
	if s.predictor == nil {
		var err error
		if s.session, err = s.load(ctx); err != nil {
			return nil, s.silent(ctx, err)
		}
		if s.predictor, err = task.NewTextPredictor(s.classifier, s.session); err != nil {
			return nil, s.silent(ctx, err)
		}
	}
	logits, err := s.predictor.Logits(ctx, texts, s.hidden, s.width)
	if err != nil {
		return nil, s.silent(ctx, err)
	}
	return logits, nil
}

// silent names the teacher that gives no answer, unless it was told to stop.
func (s *teacher) silent(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return galley.Errorf(galley.CodeOf(err), "teachers", "%s cannot answer: %w", s.name, err)
}

// close gives back what the teacher's graph holds.
func (s *teacher) close() {
	if s.session != nil {
		_ = s.session.Close() // it was only asked
		s.session, s.predictor = nil, nil
	}
}
