package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	controlpb "galley/api/control/v1"

	"galley"
)

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
	forced, err := s.entryAfter(ctx, s.head.Entries, "headlines:prod", func(e *controlpb.AuditEntry) bool {
		return strings.HasSuffix(e.GetAction(), ".forced") && strings.Contains(e.GetDetail(), reason)
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d entries verified, also against the head kept after the promotion; number %d is %s of %s by %s: %s",
		v.Entries, forced.GetNumber(), forced.GetAction(), forced.GetSubject(), forced.GetActor(), forced.GetDetail()), nil
}
