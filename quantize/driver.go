package quantize

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/onnx"
	"galley/onnx/session"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
)

// Driver runs attempts of jobs of kind Quantize. An attempt begins anew each
// time: the same request gives the same model.
type Driver struct {
	Opener session.Opener
}

var _ engine.Driver = Driver{}

// Name is "quantize".
func (Driver) Name() string { return "quantize" }

// Version names the runtime.
func (d Driver) Version() string { return d.Opener.Runtime() }

// bundleFolder is where the finished model lies below the work folder.
const bundleFolder = "bundle"

// Train makes the smaller model of a request; see engine.Driver.
func (d Driver) Train(ctx context.Context, r engine.Request, report func(engine.Event)) (engine.Result, error) {
	a, err := d.begin(r, report)
	if err != nil {
		return engine.Result{}, err
	}
	defer a.close()
	result, err := a.run(ctx)
	if ctx.Err() != nil { // whatever the runtime made of it
		return engine.Result{}, ctx.Err()
	}
	return result, err
}

// An attempt is one run of a job.
type attempt struct {
	opener  session.Opener
	spec    trainer.Spec
	workDir string
	data    *dataset.Manifest
	steps   *steps

	bundle     *task.Bundle
	classifier *task.TextClassifier
	model      *onnx.Model
	train      *dataset.Records
	valid      *dataset.Records
	order      []int // rows of train to calibrate with
	threads    int
}

// begin opens the model and the rows.
func (d Driver) begin(r engine.Request, report func(engine.Event)) (*attempt, error) {
	a := &attempt{
		opener: d.Opener, spec: r.Spec, workDir: r.WorkDir, data: r.Data,
		steps: &steps{report: report}, threads: max(1, r.Spec.Resources.CPUs),
	}
	if err := a.open(r); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *attempt) open(r engine.Request) (err error) {
	if a.bundle, err = task.OpenBundleDir(r.Parent); err != nil {
		if galley.CodeOf(err) == galley.NotFound {
			return galley.Errorf(galley.FailedPrecondition, "from", "%s is no %s model: %w", r.Spec.From, task.TextClassification, err).
				WithRemedy("import it with its labels and tokenizer: galley models import FILE.onnx --task %s --labels F --tokenizer F", task.TextClassification)
		}
		return err
	}
	if a.classifier, err = task.NewTextClassifier(a.bundle.Config, a.bundle.Tokenizer); err != nil {
		return err
	}
	if a.model, err = onnx.ReadFile(a.bundle.ModelPath(), onnx.ReadOptions{}); err != nil {
		return err
	}
	if err := a.sameLabels(); err != nil {
		return err
	}
	if a.train, err = records(r, dataset.Train); err != nil {
		return err
	}
	a.valid, err = records(r, dataset.Valid)
	return err
}

// sameLabels checks that the model knows the labels of the data.
func (a *attempt) sameLabels() error {
	known := make(map[string]bool, len(a.bundle.Config.Labels))
	for _, label := range a.bundle.Config.Labels {
		known[label] = true
	}
	for _, label := range a.data.Labels {
		if !known[label] {
			return galley.Errorf(galley.FailedPrecondition, "data", "%s has the label %q, which the model does not know", a.data.Name, galley.Clip(label, 80)).
				WithRemedy("name data with the model's labels: data: {dataset: NAME}")
		}
	}
	return nil
}

// records opens a split, which must have rows.
func records(r engine.Request, split dataset.Split) (*dataset.Records, error) {
	use, remedy := "calibrate with", "choose a dataset whose train split has rows"
	if split == dataset.Valid {
		use, remedy = "measure the drop of accuracy on", "add the data again with --valid, or choose a dataset that has such rows"
	}
	path, ok := r.Records[string(split)]
	if ok && r.Data.Splits[split].Rows > 0 {
		return dataset.OpenRecordsFile(path)
	}
	return nil, galley.Errorf(galley.FailedPrecondition, "data", "%s has no rows in its split %s to %s", r.Data.Name, split, use).WithRemedy("%s", remedy)
}

func (a *attempt) close() error {
	var errs []error
	for _, r := range []*dataset.Records{a.train, a.valid} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	return errors.Join(errs...)
}

// options are those of the spec. Ranges are found later.
func (a *attempt) options() Options {
	q := a.spec.Quantize
	return Options{
		Method:    Method(q.Method),
		PerTensor: !q.Weights.PerChannel, FloatTables: !q.Weights.Tables,
		Asymmetric: !q.Weights.Symmetric, Block: q.Weights.Block,
		SymmetricActivations: q.Activations.Symmetric, SignedActivations: q.Activations.Type == "int8",
		Narrow: narrow(q.Weights.Saturation),
	}
}

// narrow decides whether weights keep to 7 bits.
func narrow(saturation string) bool {
	return saturation == "prevent" || saturation == "auto" && Saturates()
}

// run makes the model, measures it, and writes it.
func (a *attempt) run(ctx context.Context) (engine.Result, error) {
	o := a.options()
	sites, _, err := Find(a.model, o)
	if err != nil {
		return engine.Result{}, err
	}
	if err := a.choose(); err != nil {
		return engine.Result{}, err
	}
	rows := 2 * a.valid.Len()
	if o.Method == Static {
		rows += len(a.order)
	}
	a.steps.plan(rows, fmt.Sprintf("method %s, %d places", o.Method, len(sites)))
	if o.Method == Static {
		if o.Ranges, err = a.calibrate(ctx, sites, o); err != nil {
			return engine.Result{}, err
		}
	}
	f, err := a.fit(ctx, o)
	if err != nil {
		return engine.Result{}, err
	}
	return a.finish(ctx, f)
}

// finish tells the outcome, writes the bundle and says whether it may become
// the candidate.
func (a *attempt) finish(ctx context.Context, f *form) (engine.Result, error) {
	if err := f.write(a, filepath.Join(a.workDir, bundleFolder)); err != nil {
		return engine.Result{}, err
	}
	result := engine.Result{Bundle: filepath.Join(a.workDir, bundleFolder), Steps: a.steps.done, BestStep: a.steps.done, Metrics: f.metrics()}
	for _, line := range f.lines() {
		a.steps.note(line)
	}
	var err error
	if result.Withheld, err = a.withheld(ctx, f); err != nil {
		return engine.Result{}, err
	}
	if result.Withheld != "" {
		a.steps.note(result.Withheld)
	}
	a.steps.finish(result.Metrics)
	return result, nil
}

// A predictor is a session that answers as evals ask.
type predictor struct {
	*task.TextPredictor
	session session.Session
}

func (a *attempt) predictor(ctx context.Context, m *onnx.Model) (*predictor, error) {
	s, err := open(ctx, a.opener, m, a.threads, "evaluation")
	if err != nil {
		return nil, err
	}
	p, err := task.NewTextPredictor(a.classifier, s)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &predictor{p, s}, nil
}

// Predict implements evals.Predictor.
func (p *predictor) Predict(ctx context.Context, texts []string) ([]evals.Prediction, error) {
	answers, err := p.TextPredictor.Predict(ctx, texts)
	if err != nil {
		return nil, err
	}
	out := make([]evals.Prediction, len(answers))
	for i, answer := range answers {
		out[i] = evals.Prediction{Scores: answer.Scores, Truncated: answer.Truncated}
	}
	return out, nil
}
