package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"galley"
	"galley/internal/blob"
	"galley/internal/store/sqlite"
	"galley/registry"
)

const (
	firstSweep    = time.Minute // after the start, when what traffic needs is open
	sweepEvery    = time.Hour
	uploadsExpire = 24 * time.Hour // uploads that no job and no version came from
)

// sweepAtTimes removes blobs that nothing names, and old outcomes, time and again
// until ctx ends.
func (c *Control) sweepAtTimes(ctx context.Context) {
	next := time.NewTimer(firstSweep)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		c.sweep(ctx)
		c.forgetOutcomes(ctx)
		next.Reset(sweepEvery)
	}
}

// sweepSoon removes beside what nothing names since a deletion. Close waits
// for it: the disk of what a command deletes is free when the command ends.
func (c *Control) sweepSoon() {
	c.mu.Lock()
	closing := c.closing
	if !closing {
		c.running.Add(1)
	}
	c.mu.Unlock()
	if closing {
		return
	}
	go func() {
		defer c.running.Done()
		c.sweep(c.life)
	}()
}

// sweep removes the blobs that nothing names. What it cannot remove now it
// removes the next time.
func (c *Control) sweep(ctx context.Context) {
	done, err := c.collectBlobs(ctx)
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		c.log.Error("blobs that nothing names cannot be removed", "error", err)
	case done.Removed > 0:
		c.log.Info("blobs that nothing named were removed", "blobs", done.Removed, "bytes", done.Bytes, "kept", done.Kept)
	}
}

func (c *Control) collectBlobs(ctx context.Context) (blob.Swept, error) {
	if err := c.store.ForgetUploads(ctx, c.now().Add(-uploadsExpire)); err != nil {
		return blob.Swept{}, err
	}
	return c.blobs.Sweep(ctx, func(keep func(galley.Digest)) error { return c.named(ctx, c.store, keep) })
}

// named calls keep with every blob that a store names. Of an upload that is
// named the files are, too.
func (c *Control) named(ctx context.Context, s *sqlite.Store, keep func(galley.Digest)) error {
	all := map[galley.Digest]bool{}
	if err := s.References(ctx, func(d galley.Digest) { all[d] = true }); err != nil {
		return err
	}
	for d := range all {
		keep(d)
		uploaded, err := c.isUpload(d)
		if err != nil {
			return err
		}
		if !uploaded {
			continue
		}
		files, err := c.upload(d)
		if galley.CodeOf(err) == galley.NotFound {
			continue // it is damaged; what it named cannot be known
		}
		if err != nil {
			return err
		}
		for _, f := range files {
			keep(f.Digest)
		}
	}
	return nil
}

// uploadPrefix is how an upload's list of files begins.
var uploadPrefix = []byte(`{"format":"` + uploadFormat + `",`)

// isUpload reports whether a digest is that of an upload's list of files,
// without reading more of a blob than its beginning.
func (c *Control) isUpload(d galley.Digest) (bool, error) {
	f, size, err := c.blobs.Open(d)
	if galley.CodeOf(err) == galley.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if size < int64(len(uploadPrefix)) || size > maxUploadList {
		return false, nil
	}
	begin := make([]byte, len(uploadPrefix))
	if _, err := io.ReadFull(f, begin); err != nil {
		return false, galley.Errorf(galley.Unavailable, string(d), "cannot be read: %w", err)
	}
	return bytes.Equal(begin, uploadPrefix), nil
}

// keepUpload is upload for who is about to name the files: the hold of ctx
// keeps them.
func (c *Control) keepUpload(ctx context.Context, d galley.Digest) ([]registry.Artifact, error) {
	if _, err := c.blobs.Keep(ctx, d); err != nil && galley.CodeOf(err) != galley.NotFound {
		return nil, err
	}
	files, err := c.upload(d)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if _, err := c.blobs.Keep(ctx, f.Digest); err != nil {
			return nil, err
		}
	}
	return files, nil
}
