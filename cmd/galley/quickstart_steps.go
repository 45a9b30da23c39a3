package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
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

func (s *story) promote(ctx context.Context) (string, error) {
	if _, err := s.client.control.Promote(ctx, &controlpb.PromoteRequest{Ref: s.model, Alias: "prod"}); err != nil {
		return "", err
	}
	v, err := s.client.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: "headlines:prod"})
	if err != nil {
		return "", err
	}
	if v.GetRef() != s.model {
		return "", wrong("headlines:prod is %s, not %s", v.GetRef(), s.model)
	}
	if s.head, err = signedHead(ctx, s.client); err != nil {
		return "", err
	}
	return "headlines:prod is " + s.model, nil
}

// asked is how many headlines of the test split each version answers.
const asked = 200

// askAll asks what traffic goes to, as an application does, and holds that
// the expected version answers.
func (s *story) askAll(ctx context.Context, expected string) ([]output, error) {
	var texts []string
	for _, q := range s.questions[:min(asked, len(s.questions))] {
		texts = append(texts, q.text)
	}
	p, err := predict(ctx, s.client, galley.Ref{Name: "headlines"}, texts)
	if err != nil {
		return nil, err
	}
	if p.Model != expected {
		return nil, wrong("%s answered, not %s", p.Model, expected)
	}
	return p.Outputs, nil
}

func (s *story) ask(ctx context.Context) (string, error) {
	answers, err := s.askAll(ctx, s.model)
	if err != nil {
		return "", err
	}
	s.answers[s.model] = answers
	detail := fmt.Sprintf("%d headlines asked by gRPC at %s, %d answered right:", len(answers), s.address, s.right(answers))
	for _, language := range []string{"en", "zh"} {
		shown := 0
		for i, a := range answers {
			if q := s.questions[i]; q.language == language && a.Label == q.label && shown < 2 {
				detail += fmt.Sprintf("\n             %-11s %.2f  %s", a.Label, a.Score, q.text)
				shown++
			}
		}
		if shown == 0 {
			return "", wrong("no headline in %q was answered right", language)
		}
	}
	return detail, nil
}

func (s *story) right(answers []output) int {
	n := 0
	for i, a := range answers {
		if a.Label == s.questions[i].label {
			n++
		}
	}
	return n
}

func (s *story) trainWorse(ctx context.Context) (string, error) {
	job, v, err := s.finish(ctx, s.waiting)
	if err != nil {
		return "", err
	}
	s.worse = v.GetRef()
	return fmt.Sprintf("%s saw one headline in fifty: accuracy %.3f on the validation split", s.worse, job.GetMetrics()["accuracy"]), nil
}

// refuseWorse holds that the gate names what is wrong with the worse version,
// and that production stays as it was.
func (s *story) refuseWorse(ctx context.Context) (string, error) {
	_, err := s.client.control.Promote(ctx, &controlpb.PromoteRequest{Ref: s.worse, Alias: "prod"})
	checks := refusedChecks(err)
	if err == nil || len(checks) == 0 {
		return "", wrong("the gate let %s pass: %w", s.worse, err)
	}
	i := slices.IndexFunc(checks, func(c checkJSON) bool { return c.Name == "accuracy" })
	if i < 0 {
		return "", wrong("the gate refuses %s for %+v, not for its accuracy", s.worse, checks)
	}
	if _, err := s.askAll(ctx, s.model); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is refused, %s goes on answering: accuracy %s", s.worse, s.model, checks[i].Detail), nil
}

// reason is why the worse version is promoted all the same.
const reason = "to see a rollback"

func (s *story) forceWorse(ctx context.Context) (string, error) {
	if _, err := s.client.control.Promote(ctx, &controlpb.PromoteRequest{Ref: s.worse, Alias: "prod", Force: true, Reason: reason}); err != nil {
		return "", err
	}
	history, err := s.client.control.AliasHistory(ctx, &controlpb.AliasHistoryRequest{Name: "headlines", Alias: "prod"})
	if err != nil {
		return "", err
	}
	if last := history.GetChanges()[0]; last.GetTo() != s.worse || last.GetMove() != "promote.forced" || last.GetReason() != reason {
		return "", wrong("the history does not tell the forced promotion: %v", last)
	}
	answers, err := s.askAll(ctx, s.worse)
	if err != nil {
		return "", err
	}
	changed := 0
	for i, a := range answers {
		if a.Label != s.answers[s.model][i].Label {
			changed++
		}
	}
	if changed == 0 {
		return "", wrong("the answers of %s are those of %s", s.worse, s.model)
	}
	return fmt.Sprintf("%s answers now, forced %q: %d of %d answers changed, %d are right", s.worse, reason, changed, len(answers), s.right(answers)), nil
}

func (s *story) rollBack(ctx context.Context) (string, error) {
	change, err := s.client.control.Rollback(ctx, &controlpb.RollbackRequest{Name: "headlines", Alias: "prod"})
	if err != nil {
		return "", err
	}
	if change.GetTo() != s.model {
		return "", wrong("the rollback went to %s, not to %s", change.GetTo(), s.model)
	}
	answers, err := s.askAll(ctx, s.model)
	if err != nil {
		return "", err
	}
	for i, a := range answers {
		// Which texts run together, and are padded alike, moves the last bits.
		if before := s.answers[s.model][i]; a.Label != before.Label || max(a.Score-before.Score, before.Score-a.Score) > 1e-5 {
			return "", wrong("%q was %s (%v) before and is %s (%v) now", s.questions[i].text, before.Label, before.Score, a.Label, a.Score)
		}
	}
	return fmt.Sprintf("headlines:prod is %s again, and all %d answers are what they were", s.model, len(answers)), nil
}

// verifyAudit checks the audit log against the head that was taken after the
// promotion, and looks for what was forced.
func (s *story) verifyAudit(ctx context.Context) (string, error) {
	v, err := verifyAudit(ctx, s.client, &s.head)
	if err != nil {
		return "", err
	}
	if !v.OK || v.Entries <= s.head.Entries {
		return "", wrong("the audit log does not go on from its head of %d entries: %+v", s.head.Entries, v)
	}
	stream, err := s.client.audit.ListEntries(ctx, &controlpb.ListAuditEntriesRequest{After: s.head.Entries, Subject: "headlines:prod"})
	if err != nil {
		return "", err
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return "", wrong("the audit log does not tell the forced promotion")
		}
		if err != nil {
			return "", err
		}
		if strings.HasSuffix(e.GetAction(), ".forced") && strings.Contains(e.GetDetail(), reason) {
			return fmt.Sprintf("%d entries verified, also against the head kept after the promotion; number %d is %s of %s by %s: %s",
				v.Entries, e.GetNumber(), e.GetAction(), e.GetSubject(), e.GetActor(), e.GetDetail()), nil
		}
	}
}
