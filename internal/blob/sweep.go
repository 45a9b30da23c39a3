package blob

import (
	"context"
	"sync"

	"galley"
)

// A blob lives while something names it, and what names it is not known here:
// Sweep is told. Between the moment a writer stores a blob and the moment
// that its name is written down elsewhere, a hold keeps it:
//
//	ctx, release := blobs.Hold(ctx)
//	defer release()              // after the name is written down
//	digest, _, err := blobs.Put(ctx, r)
//	err = store.Write(ctx, digest)
//
// Everything put with that context, and everything that Keep finds, stays
// until release, and until the end of a sweep that is under way then: such a
// sweep may have asked for names before this one was written. What is put
// without a hold stays as long as the process lives.

// guard says what a sweep must leave alone. Its lock is held for each
// decision, so a blob is either guarded in time or removed before its writer
// looks for it.
type guard struct {
	mu       sync.Mutex
	held     map[galley.Digest]int // by how many holds
	spared   map[galley.Digest]bool
	sweeping bool // the digests that become held are spared, too
	frozen   int
}

type holdKey struct{}

// A hold is what one writer keeps.
type hold struct {
	digests map[galley.Digest]bool // nil after its release
}

// Hold returns a context that keeps what is put with it until release, which
// may be called more than once.
func (s *Store) Hold(ctx context.Context) (_ context.Context, release func()) {
	h := &hold{digests: map[galley.Digest]bool{}}
	return context.WithValue(ctx, holdKey{}, h), func() { s.guard.release(h) }
}

func (g *guard) release(h *hold) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for d := range h.digests {
		if g.held[d]--; g.held[d] == 0 {
			delete(g.held, d)
		}
	}
	h.digests = nil
}

// keep guards a blob, whether it is there or not. A hold that has been
// released keeps for as long as none: for ever.
func (g *guard) keep(ctx context.Context, d galley.Digest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h, ok := ctx.Value(holdKey{}).(*hold); ok && h.digests != nil {
		if h.digests[d] {
			return
		}
		h.digests[d] = true
	}
	g.held[d]++
	if g.sweeping {
		g.spared[d] = true
	}
}

// Keep holds a blob that is there already, and returns its size.
func (s *Store) Keep(ctx context.Context, d galley.Digest) (int64, error) {
	if _, err := galley.ParseDigest(string(d)); err != nil {
		return 0, err
	}
	s.guard.keep(ctx, d)
	return s.Stat(d)
}

// Freeze keeps every blob from being removed until thaw is called. A sweep
// that is under way ends.
func (s *Store) Freeze() (thaw func()) {
	g := &s.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.frozen--
	})
}

// Swept says what a sweep did.
type Swept struct {
	Removed int   // blobs
	Bytes   int64 // of them
	Kept    int   // blobs that are named or held
}

// Sweep removes the blobs that nothing names and no hold keeps. named calls
// its argument with the digest of each blob that is written down somewhere,
// as of some moment after Sweep began; if it fails, nothing is removed. One
// sweep goes on at a time, and none while the store is frozen.
func (s *Store) Sweep(ctx context.Context, named func(keep func(galley.Digest)) error) (Swept, error) {
	s.sweeps.Lock()
	defer s.sweeps.Unlock()
	var done Swept
	if !s.guard.begin() {
		return done, nil
	}
	defer s.guard.end()
	keep := map[galley.Digest]bool{}
	if err := named(func(d galley.Digest) { keep[d] = true }); err != nil {
		return done, err
	}
	for b, err := range s.List() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return done, err
		}
		if keep[b.Digest] {
			done.Kept++
			continue
		}
		removed, frozen, err := s.guard.remove(b.Digest, s.Path(b.Digest))
		switch {
		case err != nil:
			return done, err
		case frozen:
			return done, nil
		case removed:
			s.verified.Delete(b.Digest)
			done.Removed++
			done.Bytes += b.Size
		default:
			done.Kept++
		}
	}
	return done, nil
}

// begin spares what is held now; from here on, what becomes held, too.
func (g *guard) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen > 0 {
		return false
	}
	g.sweeping, g.spared = true, make(map[galley.Digest]bool, len(g.held))
	for d := range g.held {
		g.spared[d] = true
	}
	return true
}

func (g *guard) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweeping, g.spared = false, nil
}

// remove removes a blob's file unless it is to stay.
func (g *guard) remove(d galley.Digest, path string) (removed, frozen bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen > 0 || g.spared[d] {
		return false, g.frozen > 0, nil
	}
	return true, false, remove(path)
}
