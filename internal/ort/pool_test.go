package ort_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"galley"
	"galley/internal/ort"
	"galley/internal/ort/orttest"
	"galley/onnx/session"
)

// counted is a session that tells how often it is closed.
type counted struct {
	session.Session
	closed *atomic.Int32
}

func (c counted) Close() error { c.closed.Add(1); return nil }

func TestPoolShares(t *testing.T) {
	var pool ort.Pool
	var opened, closed atomic.Int32
	open := func(context.Context) (session.Session, error) { opened.Add(1); return counted{closed: &closed}, nil }
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				s, err := pool.Acquire(ctx, "a", open)
				if err != nil {
					t.Error(err)
					return
				}
				if opened.Load() <= closed.Load() {
					t.Error("the session is closed while in use")
				}
				_ = s.Close()
				_ = s.Close()
			}
		})
	}
	group.Wait()
	if opened.Load() != closed.Load() || pool.Open() != 0 {
		t.Errorf("opened %d, closed %d, %d left", opened.Load(), closed.Load(), pool.Open())
	}
	a, _ := pool.Acquire(ctx, "a", open)
	b, _ := pool.Acquire(ctx, "a", open)
	c, _ := pool.Acquire(ctx, "c", open)
	if n := opened.Load() - closed.Load(); n != 2 || pool.Open() != 2 {
		t.Errorf("%d sessions for two keys", n)
	}
	_, _, _ = a.Close(), b.Close(), c.Close()
	if opened.Load() != closed.Load() {
		t.Errorf("opened %d, closed %d", opened.Load(), closed.Load())
	}
}

func TestPoolOpenFails(t *testing.T) {
	var pool ort.Pool
	broken := errors.New("broken")
	inside, proceed := make(chan struct{}), make(chan struct{})
	var closed atomic.Int32
	var group sync.WaitGroup
	group.Go(func() {
		_, err := pool.Acquire(ctx, "a", func(context.Context) (session.Session, error) {
			close(inside)
			<-proceed
			return nil, broken
		})
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
	<-inside
	// One who waits has its own try when the first fails.
	group.Go(func() {
		s, err := pool.Acquire(ctx, "a", func(context.Context) (session.Session, error) { return counted{closed: &closed}, nil })
		if err != nil {
			t.Error(err)
			return
		}
		_ = s.Close()
	})
	// One whose context ends waits no longer.
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := pool.Acquire(ended, "a", nil); galley.CodeOf(err) != galley.Canceled {
		t.Errorf("got %v", err)
	}
	close(proceed)
	group.Wait()
	if closed.Load() != 1 || pool.Open() != 0 {
		t.Errorf("closed %d, %d left", closed.Load(), pool.Open())
	}
}

func TestPoolOverTheRuntime(t *testing.T) {
	r := orttest.Runtime(t)
	before := r.Account()
	model := sum(t)
	var pool ort.Pool
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				s, err := pool.Acquire(ctx, "sum", func(ctx context.Context) (session.Session, error) {
					return r.Open(ctx, model, session.Options{Threads: 1})
				})
				if err != nil {
					t.Error(err)
					return
				}
				x := tensor(t, []float32{1, 2, 3}, 1, 3)
				out, err := s.Run(ctx, feeds{"x": x, "y": x})
				if err != nil {
					t.Error(err)
					return
				}
				out["z"].Close()
				_ = s.Close()
			}
		})
	}
	group.Wait()
	if got := r.Account(); got != before {
		t.Errorf("account %+v, before %+v", got, before)
	}
}
