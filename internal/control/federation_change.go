package control

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"reflect"
	"slices"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/store"
	"galley/trainer"
)

// advance lets an event happen to a run's federation. The change is stored with
// the records of rounds that end by it, what its job makes of that, and an entry
// of the audit log for what is notable, in one transaction; what it asks for is
// done by who is told of it. before is what the event happened to.
func (c *Control) advance(ctx context.Context, r *run, e federation.Event) (before store.Federation, err error) {
	ctx = context.WithoutCancel(ctx)
	r.changing.Lock()
	defer r.changing.Unlock()
	for range maxConflicts {
		before, err = c.stored(ctx, r)
		if err != nil {
			return before, err
		}
		after := before
		var effects []federation.Effect
		after.Federation, effects, err = federation.Advance(before.Federation, e)
		if err != nil {
			return before, err
		}
		if len(effects) == 0 && reflect.DeepEqual(before.Federation, after.Federation) {
			return before, nil
		}
		err = c.saveRun(ctx, r, after, effects, nil)
		if galley.CodeOf(err) != galley.Aborted {
			return before, err
		}
	}
	return before, galley.Errorf(galley.Aborted, r.job, "changes too fast").WithRemedy("try again")
}

// saveRun stores a changed federation with what its effects ask for, and with an
// event of its job, if there is one. The caller holds r.changing.
func (c *Control) saveRun(ctx context.Context, r *run, after store.Federation, effects []federation.Effect, e trainer.Event) error {
	ch := store.FederationChange{Federation: after}
	var announced []string
	for _, effect := range effects {
		switch effect := effect.(type) {
		case federation.KeepRound:
			ch.Rounds = append(ch.Rounds, effect.Round)
		case federation.Announce:
			announced = effect.Partners
		}
	}
	var events []trainer.Event
	for _, round := range ch.Rounds {
		events = append(events, trainer.RoundEnded{At: round.Ended, Closed: after.Closed, Metrics: closedMetrics(round)})
	}
	if e != nil {
		events = append(events, e)
	} else if ended := jobEvent(after); ended != nil && len(effects) > 0 {
		events = append(events, ended)
	}
	noteRounds(&ch)
	stored, err := c.saveWithJob(ctx, r, ch, events)
	if err != nil {
		r.set(nil)
		return err
	}
	r.set(&stored)
	c.presence.call(r.name, announced)
	r.nudge()
	return nil
}

// jobEvent is what the end of a federation is to its job; nil if it goes on, or
// is still to become a version.
func jobEvent(f store.Federation) trainer.Event {
	switch f.State {
	case federation.Broken:
		return trainer.FederationFailed{At: f.Updated, Err: galley.Errorf(galley.FailedPrecondition, f.Terms.Federation, "%s", f.Failure).
			WithRemedy("galley federation round %s %d says what became of each partner; galley jobs resume %s tries the round again", f.Job, f.Closed+1, f.Job)}
	case federation.Ended:
		return trainer.FederationCancelled{At: f.Updated}
	default:
		return nil
	}
}

func closedMetrics(r federation.Round) map[string]float64 {
	if r.Phase == federation.Closed {
		return r.Metrics
	}
	return nil
}

// noteRounds has the audit log tell of rounds that have ended.
func noteRounds(ch *store.FederationChange) {
	f := ch.Federation
	for _, r := range ch.Rounds {
		what := fmt.Sprintf("round %d, attempt %d: %s", r.Number, r.Attempt, r.Phase)
		if r.Phase == federation.Closed {
			what += fmt.Sprintf(" with %d updates, %s", len(r.Parts()), r.Aggregate)
		}
		ch.Commit = store.Commit{By: galley.System, At: r.Ended, Action: "federation.round", Detail: what}
	}
	if f.State != federation.Running {
		ch.JobCommit = store.Commit{By: galley.System, At: f.Updated, Action: "federation.end", Detail: string(f.State)}
	}
}

// saveWithJob stores a change of a federation together with its job, if events
// happen to that.
func (c *Control) saveWithJob(ctx context.Context, r *run, ch store.FederationChange, events []trainer.Event) (store.Federation, error) {
	if len(events) == 0 {
		f, _, err := c.store.SaveFederation(ctx, ch)
		return f, err
	}
	for range maxConflicts {
		before, err := c.store.Job(ctx, r.job)
		if err != nil {
			return ch.Federation, err
		}
		after, effects, err := stepAll(before, events)
		if err != nil {
			return ch.Federation, err
		}
		if ch.JobCommit.Effects, err = orders(r.job, effects, nil); err != nil {
			return ch.Federation, err
		}
		ch.JobCommit.At = after.Updated
		ch.Job = &after
		c.sayRounds(ctx, r, ch)
		f, saved, err := c.saveBoth(ctx, ch)
		if galley.CodeOf(err) == galley.Aborted {
			if now, again := c.store.Federation(ctx, r.job); again == nil && now.Generation == ch.Federation.Generation {
				continue // it was the job that changed
			}
		}
		if err != nil {
			return f, err
		}
		c.stepped(before, *saved, len(effects) > 0)
		return f, nil
	}
	return ch.Federation, galley.Errorf(galley.Aborted, r.job, "changes too fast").WithRemedy("try again")
}

func (c *Control) saveBoth(ctx context.Context, ch store.FederationChange) (store.Federation, *trainer.Job, error) {
	c.commits.Lock()
	defer c.commits.Unlock()
	f, j, err := c.store.SaveFederation(ctx, ch)
	return f, j, c.noted(*j, err)
}

func stepAll(j trainer.Job, events []trainer.Event) (trainer.Job, []trainer.Effect, error) {
	var all []trainer.Effect
	for _, e := range events {
		var effects []trainer.Effect
		var err error
		if j, effects, err = trainer.Step(j, e); err != nil {
			return j, nil, err
		}
		all = append(all, effects...)
	}
	return j, all, nil
}

// sayRounds tells a job's log of rounds that end. It comes before the change: who
// follows the log leaves when the job is final.
func (c *Control) sayRounds(ctx context.Context, r *run, ch store.FederationChange) {
	var lines []store.Line
	for _, round := range ch.Rounds {
		lines = append(lines, store.Line{At: round.Ended, Text: roundLine(round)})
	}
	if len(lines) == 0 {
		return
	}
	if err := c.store.AppendLines(ctx, r.job, lines); err != nil {
		c.log.Error("the log of a federation cannot be written", "job", r.job, "error", err)
	}
}

// roundLine says how an attempt at a round ended.
func roundLine(r federation.Round) string {
	text := fmt.Sprintf("round %d", r.Number)
	if r.Attempt > 1 || r.Phase == federation.Failed {
		text += fmt.Sprintf(", attempt %d", r.Attempt)
	}
	if r.Phase != federation.Closed {
		return text + ": failed: " + r.Failure
	}
	text += fmt.Sprintf(": %d of %d partners", len(r.Parts()), len(r.Cohort))
	if len(r.Metrics) > 0 {
		text += ", " + metricsLine(r.Metrics)
	}
	return text
}

// admit has a run follow what is stored of a partner: its key, agreement and
// access. It does what is still to be done, if anything is; what it cannot do
// now, who drives the run does.
func (c *Control) admit(ctx context.Context, r *run, partner string) error {
	memberships, err := c.store.Memberships(ctx, partner, r.name)
	if err == nil {
		err = c.admitAll(ctx, r, memberships)
	}
	if err != nil {
		r.doubt(true)
	}
	r.nudge()
	return err
}

// admitAll is admit for memberships of the run's federation.
func (c *Control) admitAll(ctx context.Context, r *run, memberships []store.Membership) error {
	for _, m := range memberships {
		p, ok := c.roll.named(m.Partner)
		if !ok || len(r.partners) > 0 && !slices.Contains(r.partners, m.Partner) {
			continue
		}
		f, err := c.stored(ctx, r)
		if err != nil {
			return err
		}
		for _, e := range due(f.Federation, p, m, c.now()) {
			_, err := c.advance(ctx, r, e)
			if galley.CodeOf(err) == galley.ResourceExhausted { // there are as many members as there may be
				c.log.Warn("a partner cannot take part", "job", r.job, "partner", m.Partner, "error", err)
				break
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// due is what has to happen to a federation for it to have a partner as it is
// stored.
func due(f federation.Federation, p enrolled, m store.Membership, at time.Time) []federation.Event {
	var events []federation.Event
	wanted := federation.Member{Name: m.Partner, Key: p.key, Agreement: m.Agreement}
	member, known := memberOf(f, m.Partner)
	if p.Revoked != "" {
		if known && member.Revoked == "" {
			events = append(events, federation.Revoked{At: at, Partner: p.Name, Why: p.Revoked})
		}
		return events
	}
	if known && member.Revoked != "" {
		events = append(events, federation.Reinstated{At: at, Partner: p.Name})
	}
	if !known || !ed25519.PublicKey.Equal(member.Key, wanted.Key) || member.Agreement.Digest() != m.Digest {
		events = append(events, federation.Joined{Member: wanted})
	}
	return events
}
