package ort

import (
	"context"
	"sync"

	"galley/onnx/session"
)

// A Pool shares sessions: those who acquire the same key get the same session
// until the last of them has closed it. The zero Pool is empty and ready.
type Pool struct {
	mu      sync.Mutex
	entries map[string]*poolEntry
}

// A poolEntry is a session that is open or being opened.
type poolEntry struct {
	users   int           // acquired and not closed
	ready   chan struct{} // closed once session or err is set
	session session.Session
	err     error
}

// Acquire returns the session under key, which open makes if no one has it.
// Callers that come while it is being made wait for it; if open fails each of
// them tries its own open in turn. The session's Close gives it back; a second
// call does nothing.
func (p *Pool) Acquire(ctx context.Context, key string, open func(context.Context) (session.Session, error)) (session.Session, error) {
	for {
		e, opens := p.join(key)
		if opens {
			e.session, e.err = open(ctx)
			if e.err != nil {
				p.drop(key, e)
			}
			close(e.ready)
			if e.err != nil {
				return nil, e.err
			}
			return &shared{Session: e.session, pool: p, key: key, entry: e}, nil
		}
		select {
		case <-e.ready:
		case <-ctx.Done():
			_ = p.release(key, e)
			return nil, interrupted(key, ctx.Err())
		}
		if e.err == nil {
			return &shared{Session: e.session, pool: p, key: key, entry: e}, nil
		}
	}
}

// join counts the caller among the users of a key; opens says that it is the
// first, who opens the session.
func (p *Pool) join(key string) (e *poolEntry, opens bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.entries[key]; ok {
		e.users++
		return e, false
	}
	if p.entries == nil {
		p.entries = map[string]*poolEntry{}
	}
	e = &poolEntry{users: 1, ready: make(chan struct{})}
	p.entries[key] = e
	return e, true
}

// drop forgets an entry that could not be opened.
func (p *Pool) drop(key string, e *poolEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entries[key] == e {
		delete(p.entries, key)
	}
}

// release is the end of one use; the last closes the session.
func (p *Pool) release(key string, e *poolEntry) error {
	p.mu.Lock()
	e.users--
	last := e.users == 0
	if last && p.entries[key] == e {
		delete(p.entries, key)
	}
	p.mu.Unlock()
	if !last || e.session == nil {
		return nil
	}
	return e.session.Close()
}

// Open tells how many sessions the pool holds.
func (p *Pool) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.entries)
}

// shared is one user's handle of a session.
type shared struct {
	session.Session
	pool  *Pool
	key   string
	entry *poolEntry
	once  sync.Once
}

// Close gives the session back to the pool.
func (s *shared) Close() (err error) {
	s.once.Do(func() { err = s.pool.release(s.key, s.entry) })
	return err
}
