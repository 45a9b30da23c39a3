package partner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"galley"
	"galley/dataset"
	"galley/federation"
	"galley/internal/durable"
)

// A declined is why a round goes without this partner: in words that leave, and
// in those that do not.
type declined struct {
	why string // fixed, or of the offer and the agreement: never of rows
	err error
}

func (d *declined) Error() string { return fmt.Sprintf("%s: %v", d.why, d.err) }
func (d *declined) Unwrap() error { return d.err }

// What a coordinator is told when a round fails on this side.
const (
	badModel   = "the model that was sent cannot be used"
	badWeights = "the weights that were sent cannot be used"
	badRecipe  = "the recipe cannot be used"
	badRows    = "the partner's rows cannot be used with this model"
	noMemory   = "training ran out of memory"
	noTraining = "training failed"
	noMachine  = "the partner's machine cannot take part at present"
	noUpdate   = "the round was answered already, and the update is not kept any more"
)

// maxWhy bounds the words that leave.
const maxWhy = 300

// answer takes an offer to its end, and reports whether an update was accepted.
func (a *agent) answer(ctx context.Context, j *job) bool {
	o := j.offer
	log := a.log.With("run", o.Run, "round", o.Round, "attempt", o.Attempt)
	log.Info("asked to take part in a round", "model", o.Model, "purpose", o.Purpose, "weights", o.Base.Short(), "within", time.Until(o.deadline).Round(time.Second),
		"strategy", o.Strategy, "min_cohort", o.MinCohort, "clip", o.Clip, "metrics", o.Metrics)
	inTime, cancel := context.WithDeadline(ctx, o.deadline)
	defer cancel()
	signed, err := a.update(inTime, o)
	if err == nil {
		// The coordinator says whether it is late, by its own clock.
		sending, cancel := context.WithDeadline(ctx, o.deadline.Add(time.Minute))
		defer cancel()
		j.sending.Store(true)
		return a.send(sending, o, signed)
	}
	var no *declined
	switch {
	case ctx.Err() != nil: // given up for a newer one, or for the agent's end
	case errors.Is(err, context.DeadlineExceeded) || inTime.Err() != nil:
		log.Warn("the round's time is over before there was an update; nothing was sent", "error", err)
	case errors.As(err, &no):
		log.Warn("the agent does not take part", "why", no.why, "error", no.err)
		a.decline(inTime, o, no.why)
	default:
		log.Error("the agent cannot take part", "error", err)
		a.decline(inTime, o, noMachine)
	}
	return false
}

// update returns the signed answer to an offer: the one that was given before,
// or that of a training.
func (a *agent) update(ctx context.Context, o timed) (federation.SignedHeader, error) {
	given, err := a.core().Consider(o.Offer, a.now())
	if err != nil {
		return federation.SignedHeader{}, forbidden(err)
	}
	if given != nil {
		if _, err := os.Stat(a.home.updatePath(given.Update)); err != nil {
			return *given, &declined{noUpdate, err}
		}
		a.log.Info("the round was answered before; the same update is sent again", "run", o.Run, "round", o.Round, "attempt", o.Attempt, "update", given.Update.Short())
		return *given, nil
	}
	a.log.Info("the agreement permits it", "run", o.Run, "round", o.Round, "attempt", o.Attempt, "agreement", a.membership.Agreement.Short())
	spec, err := a.spec(o.Offer)
	if err != nil {
		return federation.SignedHeader{}, &declined{words(badRecipe, err), err}
	}
	a.say("fetching", o)
	m, err := a.fetch(ctx, o)
	if err != nil {
		return federation.SignedHeader{}, err
	}
	rows, err := a.records(ctx, m.labels)
	if err != nil {
		return federation.SignedHeader{}, unusable(ctx, err)
	}
	a.say("training", o)
	t, err := a.train(ctx, o.Offer, spec, m, rows)
	if err != nil {
		return federation.SignedHeader{}, err
	}
	return a.sign(o.Offer, m, t, rows.manifest.Splits[dataset.Train].Rows)
}

func (a *agent) say(state string, o timed) {
	a.doing.working(Doing{State: state, Run: o.Run, Round: o.Round})
}

// forbidden is what the agreement, or the ledger, says of an offer: the
// coordinator may know, since it made the one and has the other.
func forbidden(err error) error {
	e := galley.AsError(err)
	return &declined{galley.Clip(printable(e.Subject+": "+e.Message), maxWhy), err}
}

// words are fixed ones, and what is wrong with something that the coordinator
// itself has sent.
func words(why string, err error) string {
	return galley.Clip(printable(why+": "+galley.AsError(err).Message), maxWhy)
}

// unusable declines for the sake of the partner's files, if it is they that are
// to blame, and not the time or the disk.
func unusable(ctx context.Context, err error) error {
	switch galley.CodeOf(err) {
	case galley.InvalidArgument, galley.NotFound, galley.DataLoss:
		if ctx.Err() == nil {
			return &declined{badRows, err}
		}
	}
	return err
}

// fetch brings the model and the weights that a round begins with here. A
// connection that breaks is waited for, and what has come stays.
func (a *agent) fetch(ctx context.Context, o timed) (*model, error) {
	again := backoff{first: a.options.Pause}
	for {
		l, err := a.reach(ctx)
		if err != nil {
			return nil, err
		}
		m, err := a.fetchOver(ctx, l, o)
		var no *declined
		if err == nil || errors.As(err, &no) || ctx.Err() != nil || !passes(err) {
			return m, err
		}
		a.log.Warn("fetching stopped, and goes on where it was", "run", o.Run, "round", o.Round, "error", err)
		if err := again.wait(ctx); err != nil {
			return nil, err
		}
	}
}

func (a *agent) fetchOver(ctx context.Context, l *link, o timed) (*model, error) {
	m := a.model
	if m == nil || m.run != o.Run {
		dir, err := a.modelDir(ctx, l, o.Run)
		if err != nil {
			return nil, sent(badModel, err)
		}
		a.model = nil
		if m, err = openModel(o.Run, dir); err != nil {
			return nil, &declined{badModel, err}
		}
		a.model = m
	}
	base, err := a.baseFile(ctx, l, o.Run, o.Base, m.layout.EncodedSize())
	if err != nil {
		return nil, sent(badWeights, err)
	}
	if err := m.begin(base, o.Base); err != nil {
		return nil, &declined{badWeights, err}
	}
	return m, nil
}

// sent declines what a coordinator sent, if that is what is wrong.
func sent(why string, err error) error {
	switch e := galley.AsError(err); {
	case e.Code == galley.DataLoss, e.Subject == "model":
		return &declined{why, err}
	case refuses(err), e.Code == galley.NotFound, e.Code == galley.FailedPrecondition:
		return &declined{why, err}
	}
	return err
}

// sign writes the update of a training, signs it as the agreement lets it be
// signed, and stores both: only then may anything leave.
func (a *agent) sign(o federation.Offer, m *model, t training, rows int64) (federation.SignedHeader, error) {
	core := a.core()
	path := a.home.path(updateFolder, "update.tmp")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return federation.SignedHeader{}, durable.WriteError(path, err)
	}
	finding, err := federation.WriteUpdate(f, m.layout, m.before, t.after, core.Agreement.Bound(o))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		if galley.CodeOf(err) == galley.FailedPrecondition {
			return federation.SignedHeader{}, &declined{noTraining, err}
		}
		return federation.SignedHeader{}, durable.WriteError(path, err)
	}
	next, signed, err := core.Answer(o, finding, rows, t.metrics, a.now())
	if err != nil {
		return signed, forbidden(err)
	}
	if err := a.home.keepUpdate(path, signed.Update); err != nil {
		return signed, err
	}
	if err := a.home.keepLedger(next.Ledger); err != nil {
		return signed, err
	}
	a.ledger = next.Ledger
	if err := os.Remove(a.home.path(endedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return signed, durable.WriteError(a.home.path(endedFile), err)
	}
	a.log.Info("the update is signed and stored", "run", o.Run, "round", o.Round, "attempt", o.Attempt, "update", signed.Update.Short(),
		"norm", finding.Norm, "rows_trained", rows, "rows_told", signed.Rows, "metrics_told", signed.Metrics)
	return signed, errors.Join(a.home.dropUpdates(a.ledger), a.home.keepNames(workFolder))
}
