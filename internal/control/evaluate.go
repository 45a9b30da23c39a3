package control

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/evals/baseline"
	"galley/internal/store"
	"galley/onnx/session"
	"galley/registry"
	"galley/task"
)

// A model is an open text classifier, as evals see it.
type model struct {
	predictor *task.TextPredictor
	session   session.Session
	config    *task.Config
	dir       string // its own folder, removed when it is closed; or empty
}

// forEvaluation is how models are opened to be measured.
func (c *Control) forEvaluation() session.Options {
	return session.Options{Threads: c.cpus, NoMemoryPattern: true, Label: "evaluation"}
}

// openModel opens the classifier in a folder.
func (c *Control) openModel(ctx context.Context, dir string, o session.Options) (*model, error) {
	bundle, err := task.OpenBundleDir(dir)
	if err != nil {
		return nil, err
	}
	classifier, err := task.NewTextClassifier(bundle.Config, bundle.Tokenizer)
	if err != nil {
		return nil, err
	}
	s, err := c.opener.OpenFile(ctx, bundle.ModelPath(), o)
	if err != nil {
		return nil, err
	}
	p, err := task.NewTextPredictor(classifier, s)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &model{predictor: p, session: s, config: bundle.Config}, nil
}

func (m *model) labels() []string { return m.config.Labels }

// close gives back what the model holds; nothing is lost with it.
func (m *model) close() {
	_ = m.session.Close()
	if m.dir != "" {
		_ = os.RemoveAll(m.dir)
	}
}

// Predict implements evals.Predictor.
func (m *model) Predict(ctx context.Context, texts []string) ([]evals.Prediction, error) {
	answers, err := m.predictor.Predict(ctx, texts)
	if err != nil {
		return nil, err
	}
	out := make([]evals.Prediction, len(answers))
	for i, a := range answers {
		out[i] = evals.Prediction{Scores: a.Scores, Truncated: a.Truncated}
	}
	return out, nil
}

// An Evaluation says what to measure a version on: a split of a registered
// dataset, or the file "data" of a spool.
type Evaluation struct {
	Ref      galley.Ref
	Dataset  string // name or name@version; empty for a file
	Split    dataset.Split
	Format   dataset.Format
	Columns  dataset.Columns
	Baseline bool       // fit TF-IDF with logistic regression beside it
	Against  galley.Ref // another version on the same rows; zero for none
	// ShowTexts puts the texts of rows that two versions answer differently
	// into the answer. The report that is kept has their numbers alone.
	ShowTexts bool
	// Robustness asks for each text again as perturbations change it under Seed.
	Robustness bool
	Seed       uint32
	PerCPUHour float64 // price of a processor; 0 for none

	beside string // the alias whose version is beside it; prod if empty
}

// Evaluate measures a version and records the report with it. A file's rows
// that cannot be used are left out.
func (c *Control) Evaluate(ctx context.Context, by galley.Actor, e Evaluation, files *Spool) (*evals.Report, registry.ReportRef, error) {
	if err := files.finish(); err != nil {
		return nil, registry.ReportRef{}, err
	}
	select {
	case c.evaluating <- struct{}{}:
		defer func() { <-c.evaluating }()
	case <-ctx.Done():
		return nil, registry.ReportRef{}, ctx.Err()
	}
	report, v, err := c.evaluate(ctx, e, files)
	if err != nil {
		return nil, registry.ReportRef{}, err
	}
	ref, err := c.store.AddReport(ctx, v.Name, v.Number, report.WithoutTexts(), registry.Stamp{By: by, At: c.now()})
	return report, ref, err
}

func (c *Control) evaluate(ctx context.Context, e Evaluation, files *Spool) (*evals.Report, registry.Version, error) {
	v, err := c.resolveVersion(ctx, e.Ref)
	if err != nil {
		return nil, v, err
	}
	if v.Task != string(task.TextClassification) {
		return nil, v, galley.Errorf(galley.FailedPrecondition, v.Ref(), "cannot be evaluated: its task is %q", v.Task).
			WithRemedy("choose a version of task %s", task.TextClassification)
	}
	m, err := c.openVersion(ctx, v, c.forEvaluation())
	if err != nil {
		return nil, v, err
	}
	defer m.close()
	rows, about, trained, err := c.evaluationRows(ctx, e, v, files)
	if err != nil {
		return nil, v, err
	}
	defer rows.close()
	o := evals.Options{SizeBytes: sizeOf(v), Place: rows.place, ShowTexts: e.ShowTexts, Robustness: e.Robustness, Seed: e.Seed, PerCPUHour: e.PerCPUHour}
	if e.Baseline {
		contender, err := c.baseline(ctx, trained, m.labels())
		if err != nil {
			return nil, v, err
		}
		o.Baselines = append(o.Baselines, contender)
	}
	other, err := c.against(ctx, v, e.Against, m.labels(), &o)
	if err != nil {
		return nil, v, err
	}
	if other != nil {
		defer other.close()
	}
	prod, err := c.beside(ctx, v, e.beside, m.labels(), &o)
	if err != nil {
		return nil, v, err
	}
	defer prod.close()
	report, err := evals.Run(ctx, m, rows.each, m.labels(), o)
	if err != nil {
		return nil, v, err
	}
	report.Ref, report.Model, report.Dataset = v.Ref(), v.Digest, about
	for _, check := range prod.judge(report) {
		report.Gate.Add(check)
	}
	return report, v, nil
}

// A production is the version in production beside one that is evaluated.
type production struct {
	*rival
	model *model // nil if the two cannot be compared, or are anyway
	gate  *evals.Gate
}

// beside opens the version in production, if there is another one, and adds
// it to what the evaluation compares with.
func (c *Control) beside(ctx context.Context, v registry.Version, alias string, labels []string, o *evals.Options) (production, error) {
	all, err := c.store.Outline(ctx, v.Name, v.Number)
	if err != nil {
		return production{}, err
	}
	gating, err := c.GateOf(ctx, v.Name, alias)
	if err != nil {
		return production{}, err
	}
	r, err := c.rivalOf(ctx, v, all, gating.Alias)
	if err != nil || r == nil || r.apart != nil {
		return production{rival: r, gate: gating.Gate}, err
	}
	// It may be the one that the request names; then it answers once.
	if slices.ContainsFunc(o.Baselines, func(b evals.Contender) bool { return b.Version != nil && b.Version.Model == r.version.Digest }) {
		return production{rival: r, gate: gating.Gate}, nil
	}
	m, err := c.openVersion(ctx, r.version, c.forEvaluation())
	if err != nil {
		return production{}, err
	}
	contender, err := m.contender(r.version, labels)
	if err != nil {
		m.close()
		return production{}, err
	}
	o.Baselines = append(o.Baselines, contender)
	return production{r, m, gating.Gate}, nil
}

func (p production) close() {
	if p.model != nil {
		p.model.close()
	}
}

// judge asks the gate.
func (p production) judge(report *evals.Report) []evals.Check {
	switch {
	case p.gate == nil:
		return nil
	case p.rival == nil:
		return p.gate.Judge(report, nil).Checks
	case p.apart != nil:
		return []evals.Check{*p.apart}
	}
	prod, _ := report.Beside(p.version.Digest)
	return p.gate.Judge(report, &prod).Checks
}

// source is the rows of an evaluation.
type source struct {
	each  iter.Seq2[dataset.Row, error]
	place func() string // of the row read last; nil if rows have only numbers
	close func()
}

// evaluationRows opens the rows to measure on, and names the dataset that a
// baseline is to be trained on.
func (c *Control) evaluationRows(ctx context.Context, e Evaluation, v registry.Version, files *Spool) (s source, about evals.Data, trained string, err error) {
	if e.Dataset == "" {
		in, ok := files.input("data")
		if !ok {
			return s, about, "", galley.Errorf(galley.InvalidArgument, "data", "neither a dataset nor a file is given").
				WithRemedy("write --data NAME or --data FILE")
		}
		s = fileSource(ctx, in, dataset.ReadOptions{Format: e.Format, Columns: e.Columns, NeedLabel: true})
		return s, evals.Data{Name: in.Name, Digest: files.digest("data")}, v.Lineage.Dataset, nil
	}
	d, err := c.dataset(ctx, e.Dataset)
	if err != nil {
		return s, about, "", err
	}
	split := e.Split
	if split == "" {
		split = dataset.Test
	}
	if d.Manifest.Splits[split].Rows == 0 {
		return s, about, "", galley.Errorf(galley.FailedPrecondition, d.Ref(), "has no rows in the split %q", galley.Clip(string(split), 40)).
			WithRemedy("choose one with rows: --split valid")
	}
	if len(d.Manifest.Labels) == 0 {
		return s, about, "", galley.Errorf(galley.FailedPrecondition, d.Ref(), "has no labels to compare with").
			WithRemedy("add the data with their labels: galley data add --columns text=COLUMN,label=COLUMN")
	}
	rows, err := c.records(ctx, d, split)
	if err != nil {
		return s, about, "", err
	}
	s.each, s.close = evals.Sequence(rows), func() { _ = rows.Close() }
	return s, evals.Data{Name: d.Name, Version: d.Version, Digest: d.Digest, Split: string(split)}, d.Ref(), nil
}

// fileSource reads the rows of a file, and knows where each one stands.
func fileSource(ctx context.Context, in dataset.Input, o dataset.ReadOptions) source {
	line := int64(0)
	return source{
		each: func(yield func(dataset.Row, error) bool) {
			for row, err := range dataset.ReadNumbered(ctx, in, o, new(dataset.Rejections)) {
				line = row.Line
				if !yield(row.Row, err) {
					return
				}
			}
		},
		place: func() string { return fmt.Sprintf("%s:%d", in.Name, line) },
		close: func() {},
	}
}

// baseline trains the baseline on a dataset's train and tunes it on its valid
// split.
func (c *Control) baseline(ctx context.Context, ref string, labels []string) (evals.Contender, error) {
	var none evals.Contender
	if ref == "" {
		return none, galley.Errorf(galley.FailedPrecondition, "baseline", "the version does not say what it was trained on").
			WithRemedy("evaluate on a registered dataset, which has a train split")
	}
	d, err := c.dataset(ctx, ref)
	if err != nil {
		return none, err
	}
	if !slices.Equal(slices.Sorted(slices.Values(labels)), d.Manifest.Labels) {
		return none, galley.Errorf(galley.FailedPrecondition, "baseline", "%s has other labels than the model", d.Ref()).
			WithRemedy("leave --baseline out, or evaluate on data with the model's labels")
	}
	train, err := c.records(ctx, d, dataset.Train)
	if err != nil {
		return none, err
	}
	defer train.Close()
	var valid dataset.Rows = noRows{}
	if d.Manifest.Splits[dataset.Valid].Rows > 0 {
		rows, err := c.records(ctx, d, dataset.Valid)
		if err != nil {
			return none, err
		}
		defer rows.Close()
		valid = rows
	}
	m, err := baseline.Train(ctx, train, valid, labels, baseline.Options{})
	if err != nil {
		return none, err
	}
	return m.Contender(), nil
}

// noRows is a split that a dataset does not have.
type noRows struct{}

func (noRows) Len() int { return 0 }
func (noRows) At(i int) (dataset.Row, error) {
	return dataset.Row{}, galley.Errorf(galley.OutOfRange, "row", "%d of 0", i)
}

// dataset returns the dataset that a text names.
func (c *Control) dataset(ctx context.Context, ref string) (store.Dataset, error) {
	r, err := galley.ParseRef(ref)
	if err != nil {
		return store.Dataset{}, err
	}
	return c.store.Dataset(ctx, r)
}

// records opens a split of a dataset.
func (c *Control) records(ctx context.Context, d store.Dataset, split dataset.Split) (*dataset.Records, error) {
	info, ok := d.Manifest.Splits[split]
	if !ok {
		return nil, galley.Errorf(galley.NotFound, d.Ref(), "has no split %q", galley.Clip(string(split), 40)).WithRemedy("look at it with galley data show %s", d.Ref())
	}
	path, err := c.blobs.VerifiedPath(ctx, info.Digest)
	if err != nil {
		return nil, err
	}
	return dataset.OpenRecordsFile(path)
}

// joinClose closes rows after their use, which ended with err.
func joinClose(err error, rows *dataset.Records) error {
	if closeErr := rows.Close(); err == nil {
		return closeErr
	}
	return err
}
