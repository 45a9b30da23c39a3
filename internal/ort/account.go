package ort

import "sync/atomic"

// An Account is what the sessions of a Runtime hold together. A session
// counts until its memory is given back: a closed one with runs in flight or
// bindings open still counts.
type Account struct {
	Sessions int64 `json:"sessions"`
	Bytes    int64 `json:"bytes"`
}

// An account is an Account that several goroutines keep.
type account struct{ sessions, bytes atomic.Int64 }

func (a *account) add(sessions, bytes int64) {
	a.sessions.Add(sessions)
	a.bytes.Add(bytes)
}

func (a *account) read() Account {
	return Account{Sessions: a.sessions.Load(), Bytes: a.bytes.Load()}
}
