package rpc

import (
	"net"
	"sync"
)

// How many connections a port holds at once.
const (
	MaxConnections        = 4096
	MaxConnectionsAddress = 1024 // from one address
)

// LimitConnections makes a listener that holds at most so many connections,
// and at most each from one address; the next are closed at once, so that who
// calls tries elsewhere or later rather than waits. Those that are idle, or
// slow with a request, are ended by the servers' own times.
func LimitConnections(l net.Listener, most, each int) net.Listener {
	return &limitedListener{Listener: l, most: most, each: each, held: map[string]int{}}
}

type limitedListener struct {
	net.Listener
	most, each int

	mu    sync.Mutex
	total int
	held  map[string]int // by address
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := host(c.RemoteAddr().String())
		if l.take(from) {
			return &limitedConn{Conn: c, release: sync.OnceFunc(func() { l.release(from) })}, nil
		}
		c.Close()
	}
}

func (l *limitedListener) take(from string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.most || l.held[from] >= l.each {
		return false
	}
	l.total++
	l.held[from]++
	return true
}

func (l *limitedListener) release(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.held[from]--; l.held[from] == 0 {
		delete(l.held, from)
	}
}

type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}
