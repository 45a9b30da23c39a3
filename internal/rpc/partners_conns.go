package rpc

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// partnerConns are the connections of partners' agents that have shown who they
// are.
type partnerConns struct {
	most int // of one partner

	mu   sync.Mutex
	held map[string][]*partnerConn // by partner, the oldest first
}

// A partnerConn is one of them.
type partnerConn struct {
	net.Conn          // as TLS has it
	raw      net.Conn // below it
	partner  string
	address  string
	der      []byte // the certificate
	from     *partnerConns
}

// hold takes a connection in. One too many ends the partner's oldest: its agent
// has come back, and that one is probably dead.
func (p *partnerConns) hold(c *partnerConn) {
	c.from = p
	p.mu.Lock()
	all := append(p.held[c.partner], c)
	p.held[c.partner] = all
	p.mu.Unlock()
	if len(all) > p.most {
		all[0].cut()
	}
}

func (p *partnerConns) drop(c *partnerConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A list that was handed out is not written to.
	left := slices.DeleteFunc(slices.Clone(p.held[c.partner]), func(other *partnerConn) bool { return other == c })
	if p.held[c.partner] = left; len(left) == 0 {
		delete(p.held, c.partner)
	}
}

func (p *partnerConns) all() []*partnerConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*partnerConn
	for _, list := range p.held {
		all = append(all, list...)
	}
	return all
}

func (p *partnerConns) count() int { return len(p.all()) }

// Close implements net.Conn.
func (c *partnerConn) Close() error {
	c.from.drop(c)
	return c.Conn.Close()
}

// cut ends the connection without a word, which a client that does not read
// could hold up.
func (c *partnerConn) cut() {
	c.from.drop(c)
	// What reads and writes learns of it.
	_ = c.raw.Close()
}

// A countedConn counts the bytes of a connection.
type countedConn struct {
	net.Conn
	in, out *atomic.Int64
}

// Read implements net.Conn.
func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	return n, err
}

// Write implements net.Conn.
func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(int64(n))
	return n, err
}
