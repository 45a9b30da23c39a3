package rpc

import (
	"net"
	"sync"
)

// MaxConnections is how many connections a port holds at once.
const MaxConnections = 4096

// LimitConnections makes a listener that holds at most so many connections;
// the next are closed at once, so that who calls tries elsewhere or later
// rather than waits. Those that are idle, or slow with a request, are ended by
// the servers' own times.
func LimitConnections(l net.Listener, most int) net.Listener {
	return &limitedListener{Listener: l, free: make(chan struct{}, most)}
}

type limitedListener struct {
	net.Listener
	free chan struct{} // one for each connection
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			c.Close()
		}
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
