package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"galley"
	"galley/federation"
	"galley/internal/durable"
	"galley/internal/store"
)

// maxNoted is how many updates of one kind that count for nothing are noted in
// a round's record, of each partner: what comes after them changes no figure.
const maxNoted = 1000

// SubmitUpdate takes a partner's update. What its header says already against
// it is said before a byte of it is read; then the bytes are inspected as they
// come, to the first that is wrong. Each verdict is in the round's record.
func (c *Control) SubmitUpdate(ctx context.Context, partner string, h federation.SignedHeader, body io.Reader) (federation.Verdict, error) {
	var none federation.Verdict
	if _, err := c.roll.access(partner); err != nil {
		return none, err
	}
	if h.Partner != partner {
		return none, galley.Errorf(galley.PermissionDenied, "header.partner", "is %q, and the connection is that of %s", galley.Clip(h.Partner, 80), partner)
	}
	if !c.spool.enter(partner) {
		return none, galley.Errorf(galley.Unavailable, partner, "another update of it is on its way").WithRemedy("send one at a time, and this one again later")
	}
	defer c.spool.leave(partner)
	s := federation.Submitted{At: c.now(), Header: h, Finding: federation.Finding{Digest: h.Update}}
	r, f, v, err := c.judgeUpdate(ctx, s)
	if err != nil || r == nil {
		return v, err
	}
	if !v.OK() || v.Resent {
		return c.refuse(ctx, r, s, v)
	}
	return c.receive(ctx, r, f, s, body)
}

// judgeUpdate says what becomes of an update if its bytes are what its header says.
// With a run the verdict is still to be noted there; without one all is said.
func (c *Control) judgeUpdate(ctx context.Context, s federation.Submitted) (*run, store.Federation, federation.Verdict, error) {
	h := s.Header
	r, running := c.federations.named(h.Federation)
	var f store.Federation
	var err error
	if running {
		f, err = c.stored(ctx, r)
	} else {
		f, err = c.store.Federation(ctx, h.Run)
	}
	switch {
	case galley.CodeOf(err) == galley.NotFound || err == nil && f.Terms.Federation != h.Federation:
		return nil, f, stale("is for the run %q of %q, which is not known here", galley.Clip(h.Run, 80), galley.Clip(h.Federation, 80)), nil
	case err != nil:
		return nil, f, federation.Verdict{}, err
	case f.Round != nil && running && (h.Run != f.Job || f.Round.Number == h.Round && f.Round.Attempt == h.Attempt):
		return r, f, f.Round.Judge(s), nil
	case h.Run == f.Job && h.Round > 0 && h.Attempt > 0:
		v, err := c.judgePast(ctx, f.Job, s)
		if galley.CodeOf(err) != galley.NotFound {
			return nil, f, v, err
		}
	}
	if f.Round != nil && running {
		return r, f, f.Round.Judge(s), nil
	}
	return nil, f, stale("is for round %d, attempt %d, which is not there", h.Round, h.Attempt), nil
}

func stale(format string, args ...any) federation.Verdict {
	return federation.Verdict{Reason: federation.Stale, Message: fmt.Sprintf(format, args...)}
}

// judgePast says what becomes of an update for a round that has ended, and notes
// it in its record while its federation runs.
func (c *Control) judgePast(ctx context.Context, job string, s federation.Submitted) (federation.Verdict, error) {
	for n := 0; ; n++ {
		r, err := c.store.Round(ctx, job, s.Header.Round, s.Header.Attempt)
		if err != nil {
			return federation.Verdict{}, err
		}
		v := r.Judge(s)
		if full(r.Round, s.Header.Partner) {
			return v, nil
		}
		if r.Round, _, err = federation.Step(r.Round, s); err != nil {
			return v, err
		}
		_, err = c.store.AmendRound(ctx, job, r)
		if galley.CodeOf(err) == galley.Aborted {
			if f, gone := c.store.Federation(ctx, job); gone == nil && f.State == federation.Running && n < maxConflicts {
				continue
			}
			return v, nil // the federation has ended: its records stay as they are
		}
		return v, err
	}
}

// full reports whether a record notes no more of a partner's updates.
func full(r federation.Round, partner string) bool {
	e, ok := r.Entry(partner)
	if !ok {
		return r.Strangers >= maxNoted
	}
	return e.Refused+e.Resent >= maxNoted
}

// refuse notes an update that counts for nothing, or that had been accepted. It
// cannot be accepted by that, whatever happened since it was judged: nobody has
// its bytes.
func (c *Control) refuse(ctx context.Context, r *run, s federation.Submitted, v federation.Verdict) (federation.Verdict, error) {
	s.Fault = &federation.Fault{Reason: v.Reason, Message: v.Message}
	if v.OK() { // it was sent again
		s.Fault.Reason = federation.Duplicate
	}
	f, err := c.stored(context.WithoutCancel(ctx), r)
	if err != nil || f.Round == nil || full(*f.Round, s.Header.Partner) {
		return v, err
	}
	return c.note(ctx, r, s)
}

// note has the round judge an update, and returns what it said.
func (c *Control) note(ctx context.Context, r *run, s federation.Submitted) (federation.Verdict, error) {
	before, err := c.advance(ctx, r, s)
	switch {
	case err != nil:
		return federation.Verdict{}, err
	case before.State != federation.Running || before.Round == nil:
		return federation.Verdict{Reason: federation.Late, Message: "the round has ended"}, nil
	}
	return before.Round.Judge(s), nil
}

// receive reads the bytes of an update for the open round.
func (c *Control) receive(ctx context.Context, r *run, f store.Federation, s federation.Submitted, body io.Reader) (federation.Verdict, error) {
	var none federation.Verdict
	layout, err := c.layoutOf(f, r)
	if err != nil {
		return none, err
	}
	within, cancel := context.WithTimeout(ctx, f.Round.Deadline.Sub(s.At))
	defer cancel()
	size := layout.EncodedSize()
	if err := c.spool.take(within, size); err != nil {
		return none, galley.Errorf(galley.Unavailable, "upload", "there was no room for it in time: others are sent").WithRemedy("send it again")
	}
	defer c.spool.give(size)
	file, err := os.CreateTemp(c.temp(), "update-*")
	if err != nil {
		return none, durable.WriteError(c.temp(), err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	in := &spooling{from: io.LimitReader(body, size+1), to: file, open: func() bool { return within.Err() == nil && c.collects(r, f) }}
	s.Finding, err = federation.Inspect(in, layout)
	s.At = c.now()
	var fault *federation.Fault
	switch {
	case in.failed != nil:
		return none, durable.WriteError(c.temp(), in.failed)
	case ctx.Err() != nil:
		return none, ctx.Err() // who sent it is gone
	case in.over:
		return c.refuse(ctx, r, s, federation.Verdict{Reason: federation.Late, Message: "the round went on while it was sent"})
	case errors.As(err, &fault):
		return c.refuse(ctx, r, s, federation.Verdict{Reason: fault.Reason, Message: fault.Message})
	case err != nil:
		return none, err
	}
	if v := f.Round.Judge(s); !v.OK() {
		return c.refuse(ctx, r, s, v)
	}
	held, release := c.blobs.Hold(context.WithoutCancel(ctx)) // until the round names it
	defer release()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return none, durable.ReadError(c.temp(), err)
	}
	if _, err := c.blobs.PutExpect(held, s.Finding.Digest, file); err != nil {
		return none, err
	}
	return c.note(ctx, r, s)
}

// collects reports whether a round that was open takes updates still.
func (c *Control) collects(r *run, f store.Federation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.present == nil {
		return true // not known now; the round says so itself in the end
	}
	now := r.present.Round
	return now != nil && now.Number == f.Round.Number && now.Attempt == f.Round.Attempt && now.Phase == federation.Collecting
}

// A spooling reader writes what it reads into a file.
type spooling struct {
	from   io.Reader
	to     io.Writer
	open   func() bool // whether what is read is wanted still
	over   bool
	failed error // of the writer
}

// Read implements io.Reader.
func (s *spooling) Read(p []byte) (int, error) {
	if s.over = !s.open(); s.over {
		return 0, errNotWanted
	}
	n, err := s.from.Read(p)
	if _, s.failed = s.to.Write(p[:n]); s.failed != nil {
		return n, s.failed
	}
	return n, err
}

var errNotWanted = errors.New("is not wanted any more")
