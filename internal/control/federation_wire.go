package control

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"galley"
	"galley/federation"
	"galley/internal/durable"
	"galley/internal/store"
	"galley/task"
	"galley/trainer"
)

// What partners' agents ask for. The partner is always the one whose
// certificate the connection has; what a message says of itself is compared
// with it.

// maxAgreement bounds the file of an agreement, in bytes.
const maxAgreement = 64 << 10

// A ModelFile is a file of the model that a run began with.
type ModelFile struct {
	Name   string
	Size   int64
	Digest galley.Digest
	Open   func() (io.ReadCloser, error)
}

// partnerActor is how the audit log names a partner. No token has such a name.
func partnerActor(name string) galley.Actor { return galley.Actor("partner:" + name) }

// JoinFederation takes a partner's agreement; it returns its digest and the
// federation that it is for. A run under way has it from its next round on.
func (c *Control) JoinFederation(ctx context.Context, partner string, file []byte) (galley.Digest, string, error) {
	if _, err := c.roll.access(partner); err != nil {
		return "", "", err
	}
	if len(file) > maxAgreement {
		return "", "", galley.Errorf(galley.InvalidArgument, "agreement", "has %d bytes; at most %d are possible", len(file), maxAgreement)
	}
	a, problems := federation.ParseAgreement(file)
	if err := problems.AsError("agreement"); err != nil {
		return "", "", err
	}
	if a.Partner != partner {
		return "", "", galley.Errorf(galley.PermissionDenied, "agreement.partner", "is %q, and the connection is that of %s", galley.Clip(a.Partner, 80), partner).
			WithRemedy("write partner: %s, as the certificate has it", partner)
	}
	m := store.Membership{Partner: partner, Federation: a.Federation, Agreement: a, Digest: a.Digest()}
	commit := store.Commit{By: partnerActor(partner), At: c.now(), Action: "federation.join", Detail: string(m.Digest)}
	if err := c.store.JoinFederation(ctx, m, file, commit); err != nil {
		return "", "", err
	}
	if r, ok := c.federations.named(a.Federation); ok {
		if err := c.admit(ctx, r, partner); err != nil {
			return "", "", err
		}
	}
	return m.Digest, a.Federation, nil
}

// Ends are what an agent wants to hear of runs that end.
type Ends struct {
	Run  string // that it has answered, and whose end it does not know; "" for none
	Tell func(run string, phase trainer.Phase) error
}

// Attend has a partner present in a federation, and sends it the offers of its
// rounds, until ctx ends, the partner's access is revoked, or another stream of
// it attends. An offer that it did not answer is sent again by the next stream.
// With ends it hears of the end of a run that it had a part in.
func (c *Control) Attend(ctx context.Context, partner, name string, send func(federation.Offer) error, ends *Ends) error {
	if _, err := c.roll.access(partner); err != nil {
		return err
	}
	if err := galley.CheckName("federation", name); err != nil {
		return err
	}
	joined, err := c.store.Memberships(ctx, partner, name)
	if err != nil {
		return err
	}
	if len(joined) == 0 {
		return galley.Errorf(galley.FailedPrecondition, name, "%s has not joined it", partner).
			WithRemedy("hand the agreement over first: galley partner join")
	}
	at := place{name, partner}
	ctx, a := c.presence.enter(ctx, at)
	defer func() {
		if c.presence.leave(at, a) {
			c.lookAgain(name)
		}
	}()
	// Revoked between the look above and here, it would stay.
	if _, err := c.roll.access(partner); err != nil {
		return err
	}
	c.lookAgain(name)
	var last federation.Offer
	for {
		if ends != nil && ends.Run != "" {
			if phase := c.endOf(ctx, partner, name, ends.Run); phase != "" {
				if err := ends.Tell(ends.Run, phase); err != nil {
					return err
				}
				ends.Run = ""
			}
		}
		o, ok, err := c.offer(ctx, partner, name)
		if err != nil {
			return err
		}
		if ok && (o.Run != last.Run || o.Round != last.Round || o.Attempt != last.Attempt) {
			if err := send(o); err != nil {
				return err
			}
			if last = o; ends != nil {
				ends.Run = o.Run
			}
		}
		select {
		case <-a.signal:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.draining:
			return galley.Errorf(galley.Unavailable, name, "the coordinator is going away").WithRemedy("attend again; rounds go on when it is back")
		}
	}
}

// endOf says how a run of a federation has ended that a partner is a member of,
// "" if it has not.
func (c *Control) endOf(ctx context.Context, partner, name, id string) trainer.Phase {
	if r, ok := c.federations.named(name); ok && r.job == id {
		return ""
	}
	f, err := c.store.Federation(ctx, id)
	if err != nil || f.Terms.Federation != name || !isMember(f.Federation, partner) {
		return "" // nothing that a partner has to know
	}
	j, err := c.store.Job(ctx, id)
	if err != nil || !j.Phase.Final() {
		return ""
	}
	return j.Phase
}

// lookAgain has the run of a federation see who is there.
func (c *Control) lookAgain(name string) {
	if r, ok := c.federations.named(name); ok {
		r.nudge()
	}
}

// offer is what a partner is asked now; false if it is asked nothing.
func (c *Control) offer(ctx context.Context, partner, name string) (federation.Offer, bool, error) {
	r, ok := c.federations.named(name)
	if !ok {
		return federation.Offer{}, false, nil
	}
	f, err := c.stored(ctx, r)
	if galley.CodeOf(err) == galley.NotFound || err == nil && f.Round == nil {
		return federation.Offer{}, false, nil
	}
	if err != nil {
		return federation.Offer{}, false, err
	}
	o, ok := f.Round.Offer(partner, c.now())
	return o, ok, nil
}

// FederationModel returns the files of the model that a run began with.
func (c *Control) FederationModel(ctx context.Context, partner, name, job string) ([]ModelFile, error) {
	r, _, err := c.runOf(ctx, partner, name, job)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	files := r.files
	r.mu.Unlock()
	if files != nil {
		return files, nil
	}
	j, err := c.store.Job(ctx, job)
	if err != nil {
		return nil, err
	}
	artifacts, err := c.modelFiles(ctx, j.Parent)
	if err != nil {
		return nil, err
	}
	for _, a := range artifacts {
		if !slices.Contains([]string{task.ModelFile, task.ConfigFile, task.TokenizerFile}, a.Path) {
			continue
		}
		files = append(files, ModelFile{a.Path, a.Size, a.Digest, func() (io.ReadCloser, error) { return c.openBlob(c.life, a.Digest) }})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = files
	return files, nil
}

// openBlob opens a blob that was verified, now or before.
func (c *Control) openBlob(ctx context.Context, d galley.Digest) (*os.File, error) {
	path, err := c.blobs.VerifiedPath(ctx, d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	return f, nil
}

// FederationWeights opens the weights that a run's next round begins with, and
// no others.
func (c *Control) FederationWeights(ctx context.Context, partner, name, job string, digest galley.Digest) (io.ReadSeekCloser, int64, error) {
	_, f, err := c.runOf(ctx, partner, name, job)
	if err != nil {
		return nil, 0, err
	}
	if digest != f.Base {
		return nil, 0, galley.Errorf(galley.FailedPrecondition, galley.Clip(string(digest), 80), "are not the weights that the present round begins with").
			WithRemedy("wait for the next offer")
	}
	file, err := c.openBlob(ctx, digest)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(durable.ReadError(string(digest), err), file.Close())
	}
	return file, info.Size(), nil
}

// line is what somebody else gave as a reason, as a line that can be shown: a
// terminal would take some characters for orders.
func line(why string) string {
	why = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(why, "?"))
	if why = strings.TrimSpace(galley.Clip(why, maxReason)); why == "" {
		return "no reason given"
	}
	return why
}

// DeclineRound notes that a partner does not take part in a round, in its own
// words. One that is not the present one is past, and is not noted.
func (c *Control) DeclineRound(ctx context.Context, partner, name, job string, round, attempt int, why string) error {
	if _, err := c.roll.access(partner); err != nil {
		return err
	}
	r, ok := c.federations.named(name)
	if !ok || r.job != job {
		return nil
	}
	_, err := c.advance(ctx, r, federation.Refused{At: c.now(), Partner: partner, Round: round, Attempt: attempt, Why: line(why)})
	return err
}
