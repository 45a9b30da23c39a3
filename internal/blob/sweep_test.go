package blob

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

// nothing is named.
func nothing(func(galley.Digest)) error { return nil }

func sweep(t testing.TB, s *Store, named func(func(galley.Digest)) error) Swept {
	t.Helper()
	done, err := s.Sweep(t.Context(), named)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// reopened is the folder in a process of its own: nothing is held.
func reopened(t testing.TB, s *Store) *Store {
	t.Helper()
	again, err := Open(s.dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func has(t testing.TB, s *Store, d galley.Digest, want bool) {
	t.Helper()
	if _, err := s.Stat(d); (err == nil) != want || err != nil && galley.CodeOf(err) != galley.NotFound {
		t.Errorf("%s: %v, there: want %v", d.Short(), err, want)
	}
}

func TestSweep(t *testing.T) {
	s := open(t, Options{})
	named, unnamed := put(t, s, "named"), put(t, s, "unnamed")
	if done := sweep(t, s, nothing); done.Removed != 0 || done.Kept != 2 {
		t.Errorf("what was put without a hold is gone: %+v", done)
	}
	s = reopened(t, s)
	done := sweep(t, s, func(keep func(galley.Digest)) error { keep(named); keep("sha256:other"); return nil })
	if done != (Swept{Removed: 1, Bytes: int64(len("unnamed")), Kept: 1}) {
		t.Errorf("%+v", done)
	}
	has(t, s, named, true)
	has(t, s, unnamed, false)
}

func TestSweepFails(t *testing.T) {
	s := open(t, Options{})
	d := put(t, s, "kept")
	s = reopened(t, s)
	broken := errors.New("the database is away")
	if _, err := s.Sweep(t.Context(), func(func(galley.Digest)) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Sweep(ctx, nothing); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	has(t, s, d, true)
}

func TestHold(t *testing.T) {
	s := open(t, Options{})
	old := put(t, s, "there already")
	s = reopened(t, s)
	ctx, release := s.Hold(t.Context())
	text := "new"
	fresh, _, err := s.Put(ctx, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Keep(ctx, old); err != nil || n != int64(len("there already")) {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := s.Keep(ctx, galley.DigestBytes([]byte("absent"))); galley.CodeOf(err) != galley.NotFound {
		t.Error(err)
	}
	if _, err := s.Keep(ctx, "../x"); galley.CodeOf(err) != galley.InvalidArgument {
		t.Error(err)
	}
	other, releaseOther := s.Hold(t.Context())
	if _, err := s.PutExpect(other, fresh, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if done := sweep(t, s, nothing); done.Removed != 0 {
		t.Errorf("%+v", done)
	}
	release()
	release()
	if done := sweep(t, s, nothing); done.Removed != 1 {
		t.Errorf("%+v", done)
	}
	has(t, s, old, false)
	has(t, s, fresh, true) // the other holds it
	releaseOther()
	// A hold that ends while a sweep asks for names was perhaps too late to
	// be among them.
	last, releaseLast := s.Hold(t.Context())
	if done := sweep(t, s, func(func(galley.Digest)) error {
		if _, err := s.Keep(last, fresh); err != nil {
			return err
		}
		releaseLast()
		return nil
	}); done.Removed != 0 {
		t.Errorf("%+v", done)
	}
	if done := sweep(t, s, nothing); done.Removed != 1 {
		t.Errorf("%+v", done)
	}
}

func TestFreeze(t *testing.T) {
	s := open(t, Options{})
	d := put(t, s, "frozen")
	s = reopened(t, s)
	thaw := s.Freeze()
	thawOther := s.Freeze()
	if done := sweep(t, s, nothing); done != (Swept{}) {
		t.Errorf("%+v", done)
	}
	thaw()
	thaw()
	if done := sweep(t, s, nothing); done != (Swept{}) {
		t.Errorf("%+v", done)
	}
	thawOther()
	var late func()
	if done := sweep(t, s, func(func(galley.Digest)) error { late = s.Freeze(); return nil }); done.Removed != 0 {
		t.Errorf("%+v", done)
	}
	has(t, s, d, true)
	late()
	if done := sweep(t, s, nothing); done.Removed != 1 {
		t.Errorf("%+v", done)
	}
}

// Writers that store, name, use and forget the same few blobs never miss one
// that is named, whatever sweeps go on; when they have ended, what is named
// is what there is.
func TestSweepBesideWriters(t *testing.T) {
	s := open(t, Options{})
	names := struct {
		sync.Mutex
		of map[string]galley.Digest
	}{of: map[string]galley.Digest{}}
	write := func(worker, i int) error {
		ctx, release := s.Hold(context.Background())
		defer release()
		text := fmt.Sprint("blob ", rand.IntN(4))
		d := galley.DigestBytes([]byte(text))
		var err error
		switch i % 3 {
		case 0:
			_, _, err = s.Put(ctx, strings.NewReader(text))
		case 1:
			_, err = s.PutExpect(ctx, d, strings.NewReader(text))
		default:
			if _, err = s.Keep(ctx, d); galley.CodeOf(err) == galley.NotFound {
				return nil
			}
		}
		if err != nil {
			return err
		}
		name := fmt.Sprint(worker, i%2)
		names.Lock()
		names.of[name] = d
		names.Unlock()
		return nil
	}
	read := func(worker int) error {
		name := fmt.Sprint(worker, rand.IntN(2))
		d, ok := names.of[name] // only this worker writes it
		if !ok {
			return nil
		}
		if err := s.Verify(context.Background(), d); err != nil {
			return fmt.Errorf("named and gone: %w", err)
		}
		if rand.IntN(2) == 0 {
			delete(names.of, name)
		}
		return nil
	}
	var writers, sweepers sync.WaitGroup
	for worker := range 4 {
		writers.Go(func() {
			for i := range 100 {
				if err := write(worker, i); err != nil {
					t.Error(err)
				}
				names.Lock()
				err := read(worker)
				names.Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	removed := 0
	named := func(keep func(galley.Digest)) error {
		names.Lock()
		defer names.Unlock()
		for d := range maps.Values(names.of) {
			keep(d)
		}
		return nil
	}
	sweepers.Go(func() {
		for ctx.Err() == nil {
			done, err := s.Sweep(ctx, named)
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			removed += done.Removed
		}
	})
	writers.Wait()
	stop()
	sweepers.Wait()
	done := sweep(t, s, named)
	want := len(slices.Compact(slices.Sorted(maps.Values(names.of))))
	if done.Kept != want || removed+done.Removed == 0 {
		t.Errorf("%d blobs are left of %d that are named; %d were removed before", done.Kept, want, removed)
	}
}

// In whatever order holds, puts, sweeps and releases come, a blob is gone
// only if it was neither named nor held at a sweep.
func TestSweepAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := open(t, Options{})
		type held struct {
			ctx     context.Context
			release func()
			keeps   map[galley.Digest]bool
		}
		holds := []*held{}
		there, named := map[galley.Digest]bool{}, map[galley.Digest]bool{}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch step := rapid.SampledFrom([]string{"hold", "put", "name", "forget", "release", "sweep"}).Draw(rt, "step"); {
			case step == "hold":
				ctx, release := s.Hold(context.Background())
				holds = append(holds, &held{ctx, release, map[galley.Digest]bool{}})
			case step == "put" && len(holds) > 0:
				h := rapid.SampledFrom(holds).Draw(rt, "hold")
				d, _, err := s.Put(h.ctx, strings.NewReader(rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "text")))
				if err != nil {
					rt.Fatal(err)
				}
				there[d], h.keeps[d] = true, true
			case step == "name" && len(there) > 0:
				named[rapid.SampledFrom(slices.Sorted(maps.Keys(there))).Draw(rt, "name")] = true
			case step == "forget" && len(named) > 0:
				delete(named, rapid.SampledFrom(slices.Sorted(maps.Keys(named))).Draw(rt, "forget"))
			case step == "release" && len(holds) > 0:
				i := rapid.IntRange(0, len(holds)-1).Draw(rt, "hold")
				holds[i].release()
				holds = slices.Delete(holds, i, i+1)
			case step == "sweep":
				if _, err := s.Sweep(context.Background(), func(keep func(galley.Digest)) error {
					for d := range named {
						keep(d)
					}
					return nil
				}); err != nil {
					rt.Fatal(err)
				}
				for d := range there {
					if !named[d] && !slices.ContainsFunc(holds, func(h *held) bool { return h.keeps[d] }) {
						delete(there, d)
					}
				}
			}
			for _, text := range []string{"a", "b"} {
				d := galley.DigestBytes([]byte(text))
				if _, err := s.Stat(d); (err == nil) != there[d] {
					rt.Fatalf("%s is there: %v, want %v", text, err == nil, there[d])
				}
			}
		}
	})
}
