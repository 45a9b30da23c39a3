package partner

import (
	"context"
	"errors"
	"io"
	"os"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/internal/durable"
)

// partial is the ending of weights that have not come whole.
const partial = ".part"

// baseFile returns the file of the weights that a round begins with, which have
// exactly size bytes. What has come of them before a connection broke, or the
// agent was killed, is not asked for again. Other weights are removed.
func (a *agent) baseFile(ctx context.Context, l *link, run string, digest galley.Digest, size int64) (string, error) {
	name := digest.Hex()
	if err := a.home.keepNames(baseFolder, name, name+partial); err != nil {
		return "", err
	}
	path := a.home.path(baseFolder, name)
	if got, err := digestFile(path); err == nil && got == digest {
		return path, nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", durable.WriteError(path, err)
	}
	if err := a.receiveWeights(ctx, l, run, digest, size, path+partial); err != nil {
		return "", l.explain(err)
	}
	got, err := digestFile(path + partial)
	if err != nil {
		return "", err
	}
	if got != digest {
		err := galley.Errorf(galley.DataLoss, "weights", "have the digest %s, and the offer says %s", got.Short(), digest.Short()).
			WithRemedy("nothing is sent; ask the coordinator what happened")
		return "", errors.Join(err, os.Remove(path+partial))
	}
	if err := os.Rename(path+partial, path); err != nil {
		return "", durable.WriteError(path, err)
	}
	a.log.Info("the round's weights were fetched", "run", run, "weights", digest.Short(), "bytes", size)
	return path, nil
}

// receiveWeights adds what a file lacks to so many bytes.
func (a *agent) receiveWeights(ctx context.Context, l *link, run string, digest galley.Digest, size int64, path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return durable.WriteError(path, err)
	}
	defer func() {
		// What is lost with the power is found out by the digest, and fetched again.
		if closed := f.Close(); err == nil {
			err = durable.WriteError(path, closed)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return durable.ReadError(path, err)
	}
	at := info.Size()
	if at > size { // of another model, or damaged
		if err := f.Truncate(0); err != nil {
			return durable.WriteError(path, err)
		}
		at = 0
	}
	if at == size {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a stream that has said too much
	stream, err := l.client.FetchWeights(ctx, &federationpb.FetchWeightsRequest{
		Federation: a.membership.Terms.Federation, Run: run, Digest: string(digest), Offset: at,
	})
	if err != nil {
		return err
	}
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.DataLoss, "weights", format, args...).WithRemedy("nothing is sent; ask the coordinator what happened")
	}
	for at < size {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return wrong("end after %d of %d bytes", at, size)
		}
		if err != nil {
			return err
		}
		n := int64(len(chunk.GetData()))
		switch {
		case chunk.GetSize() != size:
			return wrong("are said to have %d bytes; the model's have %d", chunk.GetSize(), size)
		case chunk.GetOffset() != at || n == 0:
			return wrong("go on at byte %d with %d bytes, where byte %d is next", chunk.GetOffset(), n, at)
		case at+n > size:
			return wrong("go on after their end")
		}
		if _, err := f.Write(chunk.GetData()); err != nil {
			return durable.WriteError(path, err)
		}
		at += n
	}
	return nil
}
