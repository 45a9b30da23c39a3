package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/examples/jobs"
	"galley/internal/blob"
)

// wrong makes the error of a step that does not hold.
func wrong(format string, args ...any) error {
	return galley.Errorf(galley.Internal, "", format, args...)
}

// addData freezes the headlines and holds the record files on disk against
// the digests that the server gives.
func (s *story) addData(ctx context.Context) (string, error) {
	if err := s.unpack(); err != nil {
		return "", err
	}
	path := func(split string) string { return filepath.Join(s.files, split+".csv") }
	if _, err := addData(ctx, s.client.control, "headlines", dataFiles{
		train: path("train"), valid: path("valid"), test: path("test"), seed: 1, licence: "CC0-1.0",
	}); err != nil {
		return "", err
	}
	d, err := s.client.control.GetData(ctx, &controlpb.GetDataRequest{Ref: "headlines@1"})
	if err != nil {
		return "", err
	}
	blobs, err := blob.Open(filepath.Join(s.home, "blobs"), blob.Options{})
	if err != nil {
		return "", err
	}
	rows := map[string]int64{}
	for _, split := range d.GetSplits() {
		if err := blobs.Verify(ctx, galley.Digest(split.GetDigest())); err != nil {
			return "", err
		}
		if split.GetLeaks() > 0 {
			return "", wrong("%d texts of %s are also in train", split.GetLeaks(), split.GetName())
		}
		rows[split.GetName()] = split.GetRows()
	}
	if s.questions, err = readQuestions(path("test")); err != nil {
		return "", err
	}
	if int64(len(s.questions)) != rows["test"] {
		return "", wrong("the test split has %d rows, its file %d", rows["test"], len(s.questions))
	}
	return fmt.Sprintf("%d headlines frozen for training, %d for validation, %d for the test; %d topics: %s",
		rows["train"], rows["valid"], rows["test"], len(d.GetLabels()), strings.Join(d.GetLabels(), ", ")), nil
}

func readQuestions(path string) ([]question, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, err
	}
	var questions []question
	for _, r := range records[1:] {
		questions = append(questions, question{r[0], r[1], r[2]})
	}
	return questions, nil
}

// submit queues a shipped job file.
func (s *story) submit(ctx context.Context, file string, sets ...string) (*controlpb.Job, error) {
	data, err := jobs.Files.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return s.client.control.SubmitJob(ctx, &controlpb.SubmitJobRequest{JobFile: data, Set: sets})
}

// finish waits for a job and returns it with its version, read back from the
// registry.
func (s *story) finish(ctx context.Context, job *controlpb.Job) (*controlpb.Job, *controlpb.Version, error) {
	job, err := s.follow(ctx, s.client, job)
	if err != nil {
		return nil, nil, err
	}
	if e := errorOf(job.GetError()); e != nil {
		return nil, nil, e
	}
	if job.GetPhase() != "succeeded" || len(job.GetVersions()) != 1 {
		return nil, nil, wrong("the job is %s with %d versions", job.GetPhase(), len(job.GetVersions()))
	}
	v, err := s.client.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: job.GetVersions()[0]})
	if err != nil {
		return nil, nil, err
	}
	if made := v.GetLineage().AsMap()["job"]; made != job.GetJob() {
		return nil, nil, wrong("%s says that job %v made it, not %s", v.GetRef(), made, job.GetJob())
	}
	return job, v, nil
}

func (s *story) pretrain(ctx context.Context) (string, error) {
	job, err := s.submit(ctx, "headlines-base.yaml")
	if err != nil {
		return "", err
	}
	job, v, err := s.finish(ctx, job)
	if err != nil {
		return "", err
	}
	s.base = v.GetRef()
	return fmt.Sprintf("%s guesses %.0f %% of hidden tokens (by chance: under 1 %%) after %d steps without a label",
		s.base, 100*job.GetMetrics()["accuracy"], job.GetProgress().GetSteps()), nil
}

// queue submits the classifier and, behind it, the worse one, and asks what
// the second waits for.
func (s *story) queue(ctx context.Context) (string, error) {
	var err error
	if s.tuning, err = s.submit(ctx, "headlines.yaml"); err != nil {
		return "", err
	}
	if s.waiting, err = s.submit(ctx, "headlines-worse.yaml", "needs=["+s.tuning.GetJob()+"]"); err != nil {
		return "", err
	}
	why, err := s.client.control.ExplainJob(ctx, &controlpb.JobRequest{Job: s.waiting.GetJob()})
	if err != nil {
		return "", err
	}
	reasons := strings.Join(why.GetReasons(), "; ")
	if why.GetPhase() != "queued" || !strings.Contains(reasons, s.tuning.GetJob()) {
		return "", wrong("%s is %s and does not say that it waits for %s: %s", s.waiting.GetJob(), why.GetPhase(), s.tuning.GetJob(), reasons)
	}
	return fmt.Sprintf("%s waits: %s", s.waiting.GetJob(), reasons), nil
}

func (s *story) fineTune(ctx context.Context) (string, error) {
	job, v, err := s.finish(ctx, s.tuning)
	if err != nil {
		return "", err
	}
	s.model = v.GetRef()
	base, err := s.client.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: s.base})
	if err != nil {
		return "", err
	}
	if from := v.GetLineage().AsMap()["parent_digest"]; from != base.GetDigest() {
		return "", wrong("%s comes from %v, not from %s", s.model, from, s.base)
	}
	// The file to try on data of one's own, from scratch.
	shortest, err := jobs.Files.ReadFile("shortest.yaml")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(s.home, "job.yaml"), shortest, 0o644); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s goes on from %s: accuracy %.3f on the validation split after %d steps",
		s.model, s.base, job.GetMetrics()["accuracy"], job.GetProgress().GetSteps()), nil
}

// evaluate measures the model beside TF-IDF with logistic regression, fitted
// on the spot; a model that does not beat it fails the run.
func (s *story) evaluate(ctx context.Context) (string, error) {
	r, err := evaluate(ctx, s.client.control, &controlpb.EvaluateHeader{Ref: s.model, Dataset: "headlines@1", Split: "test", Baseline: true}, "")
	if err != nil {
		return "", err
	}
	v, err := s.client.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: s.model})
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(v.GetReports(), func(kept *controlpb.Report) bool { return kept.GetDigest() == r.GetDigest() }) {
		return "", wrong("the report is not kept with %s", s.model)
	}
	report := r.GetReport().AsMap()
	accuracy, low, high, err := metric(report, "accuracy")
	if err != nil {
		return "", err
	}
	beside, ok := first(report["baselines"])
	if !ok {
		return "", wrong("the report has no baseline")
	}
	baseline, _, _, err := metric(beside, "accuracy")
	if err != nil {
		return "", err
	}
	if accuracy <= baseline {
		return "", wrong("accuracy %.3f does not beat the baseline's %.3f on the test split", accuracy, baseline)
	}
	detail := fmt.Sprintf("%s is right on %.1f %% of the test split (95 %%: %.1f to %.1f); TF-IDF with logistic regression on %.1f %%",
		s.model, 100*accuracy, 100*low, 100*high, 100*baseline)
	if slices, ok := report["slices"].([]any); ok {
		for _, x := range slices {
			slice, _ := x.(map[string]any)
			if value, _, _, err := metric(slice, "accuracy"); err == nil {
				detail += fmt.Sprintf("; %v %.1f %%", slice["name"], 100*value)
			}
		}
	}
	return detail, nil
}

func first(list any) (map[string]any, bool) {
	items, _ := list.([]any)
	if len(items) == 0 {
		return nil, false
	}
	m, ok := items[0].(map[string]any)
	return m, ok
}

func metric(report map[string]any, name string) (value, low, high float64, err error) {
	metrics, _ := report["metrics"].(map[string]any)
	m, ok := metrics[name].(map[string]any)
	if !ok {
		return 0, 0, 0, wrong("the report has no %s", name)
	}
	value, _ = m["value"].(float64)
	low, _ = m["low"].(float64)
	high, _ = m["high"].(float64)
	return value, low, high, nil
}
