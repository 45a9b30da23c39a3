package partner

import (
	"context"
	"errors"
	"io"
	"time"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
)

// steady is how long a session lives that was no failure.
const steady = time.Minute

// maxIdle is how many messages of a session may ask nothing: each is a line of
// the log, and a coordinator is not to fill the partner's disk with them.
const maxIdle = 100

// attend is connected to the coordinator until ctx ends.
func (a *agent) attend(ctx context.Context) {
	again := backoff{first: a.options.Pause}
	said := ""
	for ctx.Err() == nil {
		a.doing.linked(false, said)
		began := time.Now()
		err := a.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steady {
			again.reset()
		}
		// The same trouble is said once.
		if text := err.Error(); text != said || time.Since(began) > steady {
			a.log.Warn("not connected to the coordinator; the agent tries again by itself", "error", err)
			said = text
		}
		if again.wait(ctx) != nil {
			return
		}
	}
}

// session is one connection, from hello to its end, which is an error.
func (a *agent) session(ctx context.Context) error {
	l, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	if a.membership.Handed != (Handed{a.membership.Agreement, l.identity.Fingerprint()}) {
		if err := a.rejoin(ctx, l); err != nil {
			return err
		}
	}
	last, err := a.home.lastRun(a.membership.Terms.Federation)
	if err != nil {
		return err
	}
	request := &federationpb.AttendRequest{Federation: a.membership.Terms.Federation, Ends: true}
	if last.Outcome == "" {
		request.Run = last.Run
	}
	stream, err := l.client.Attend(ctx, request)
	if err != nil {
		return l.explain(err)
	}
	a.log.Info("attending", "coordinator", a.membership.Coordinator, "federation", a.membership.Terms.Federation)
	a.setLink(l)
	defer a.setLink(nil)
	a.doing.linked(true, "")
	for idle := 0; ; {
		o, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return galley.Errorf(galley.Unavailable, a.membership.Coordinator, "the coordinator has ended the connection")
		}
		if err != nil {
			return a.unattended(l.explain(err))
		}
		var offer federation.Offer
		if o.GetEnded() != "" {
			err = a.heard(o)
		} else {
			offer, err = offerOf(o)
		}
		if err != nil {
			a.log.Warn("an offer was not understood, and is left alone", "error", err)
		}
		if err != nil || o.GetEnded() != "" {
			if idle++; idle == maxIdle {
				return galley.Errorf(galley.Unavailable, a.membership.Coordinator, "the coordinator has sent %d messages that ask nothing, or are not understood", idle)
			}
			continue
		}
		within := offer.Within
		if most := a.options.MaxTime; most > 0 {
			within = min(within, most)
		}
		select {
		case a.offers <- timed{offer, time.Now().Add(within)}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// unattended remembers that a coordinator does not know the membership: one that
// was restored from a backup, or that was told to forget it. The next session
// joins again.
func (a *agent) unattended(err error) error {
	if code := galley.CodeOf(err); code == galley.NotFound || code == galley.FailedPrecondition {
		a.membership.Handed = Handed{}
	}
	return err
}

// connect says hello: as the next identity, if a rotation is under way and the
// coordinator takes it, else as the present one.
func (a *agent) connect(ctx context.Context) (*link, error) {
	var next Identity
	var rotating bool
	err := withIdentities(a.home.dir, func() (err error) {
		next, rotating, err = nextIdentity(a.home.dir)
		return err
	})
	if err != nil {
		a.log.Warn("the next key cannot be used", "error", err)
	} else if rotating {
		if l, err := a.greet(ctx, next); err == nil {
			if err := promote(a.home.dir, next); err != nil {
				l.close()
				return nil, err
			}
			a.mu.Lock()
			a.identity = next
			a.mu.Unlock()
			a.log.Info("the coordinator has accepted the new certificate, and the one before is gone", "certificate", next.Fingerprint().Short(),
				"certificate_ends", next.Certificate.NotAfter.UTC().Format(time.RFC3339))
			return l, nil
		}
	}
	a.mu.Lock()
	present := a.identity
	a.mu.Unlock()
	return a.greet(ctx, present)
}

func (a *agent) greet(ctx context.Context, i Identity) (*link, error) {
	l, err := newLink(a.membership, i, a.now, a.options.Dial)
	if err != nil {
		return nil, err
	}
	if err := l.hello(ctx, a.options.Version); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// rejoin hands the agreement over again: to a coordinator that has another
// certificate of the agent's, or has lost it.
func (a *agent) rejoin(ctx context.Context, l *link) error {
	m, err := l.join(ctx, a.home, a.membership)
	if err != nil {
		return err
	}
	a.membership.Handed = m.Handed
	a.log.Info("the agreement was handed to the coordinator", "agreement", m.Agreement, "bytes", len(m.file))
	return a.home.keepHanded(a.membership)
}
