package partner

import (
	"context"
	"errors"
	"io"
	"os"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
	"galley/internal/durable"
)

// piece is how much of an update a message has: as much as fits into a frame of
// HTTP/2, so that the coordinator needs no large buffer for each partner.
const piece = 15 << 10

// send brings a signed update to the coordinator, until it says what becomes of
// it or ctx ends, and reports whether it counts.
func (a *agent) send(ctx context.Context, o timed, signed federation.SignedHeader) bool {
	log := a.log.With("run", o.Run, "round", o.Round, "attempt", o.Attempt, "update", signed.Update.Short())
	a.say("sending", o)
	again := backoff{first: a.options.Pause}
	for {
		verdict, err := a.upload(ctx, o, signed)
		if err == nil {
			return a.judged(o, signed, verdict)
		}
		if remote(err) && !passes(err) || again.wait(ctx) != nil {
			log.Warn("the update could not be sent; it is kept, and sent again when the coordinator asks", "error", err)
			return false
		}
		log.Warn("sending stopped, and begins again", "error", err)
	}
}

// upload sends an update once; what it sends is written down first.
func (a *agent) upload(ctx context.Context, o timed, signed federation.SignedHeader) (*federationpb.UploadResponse, error) {
	l, err := a.reach(ctx)
	if err != nil {
		return nil, err
	}
	path := a.home.updatePath(signed.Update)
	f, err := os.Open(path)
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	entry := sentRound(SentUpdate, o.Offer, a.now())
	entry.Digest, entry.Bytes, entry.Rows, entry.Metrics = signed.Update, info.Size(), signed.Rows, signed.Metrics
	if err := a.home.note(entry); err != nil {
		return nil, err
	}
	a.log.Info("leaving now: an update's header and its bytes, nothing else", "run", o.Run, "round", o.Round, "attempt", o.Attempt,
		"update", signed.Update, "bytes", info.Size(), "rows_told", signed.Rows, "metrics_told", signed.Metrics)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.client.Upload(ctx)
	if err != nil {
		return nil, l.explain(err)
	}
	err = stream.Send(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Header{Header: headerOf(signed)}})
	buffer := make([]byte, piece)
	for err == nil {
		var n int
		if n, err = f.Read(buffer); n > 0 {
			err = stream.Send(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Data{Data: buffer[:n]}})
		}
	}
	// io.EOF is the file's end, or the coordinator's word before it.
	if !errors.Is(err, io.EOF) {
		return nil, l.explain(durable.ReadError(path, err))
	}
	r, err := stream.CloseAndRecv()
	return r, l.explain(err)
}

// judged writes down what a coordinator made of an update.
func (a *agent) judged(o timed, signed federation.SignedHeader, r *federationpb.UploadResponse) bool {
	log := a.log.With("run", o.Run, "round", o.Round, "attempt", o.Attempt, "update", signed.Update.Short())
	entry := sentRound(GotAnswer, o.Offer, a.now())
	entry.Digest, entry.Answer = signed.Update, "accepted"
	if !r.GetAccepted() {
		entry.Answer = galley.Clip(printable(r.GetReason()), 80)
	}
	if err := a.home.note(entry); err != nil {
		log.Error("the record of what left cannot be written", "error", err)
	}
	if !r.GetAccepted() {
		log.Warn("the coordinator does not count the update", "reason", printable(r.GetReason()), "message", printable(r.GetMessage()))
		return false
	}
	log.Info("the coordinator has accepted the update", "had_it_already", r.GetResent())
	a.done[roundKey{o.Run, o.Round}] = true
	return true
}

// decline tells the coordinator that a round goes without this partner.
func (a *agent) decline(ctx context.Context, o timed, why string) {
	entry := sentRound(SentDecline, o.Offer, a.now())
	entry.Why = why
	again := backoff{first: a.options.Pause}
	for {
		l, err := a.reach(ctx)
		if err != nil {
			return // the coordinator offers the round again, if it is still open
		}
		if err := a.home.note(entry); err != nil {
			a.log.Error("nothing is sent: the record of what leaves cannot be written", "error", err)
			return
		}
		calling, cancel := context.WithTimeout(ctx, callTime)
		_, err = l.client.Decline(calling, &federationpb.DeclineRequest{
			Federation: o.Federation, Run: o.Run, Round: int32(o.Round), Attempt: int32(o.Attempt), Why: why,
		})
		cancel()
		if err = l.explain(err); err == nil || !passes(err) || again.wait(ctx) != nil {
			if err != nil {
				a.log.Warn("the coordinator could not be told", "error", err)
			}
			return
		}
	}
}
