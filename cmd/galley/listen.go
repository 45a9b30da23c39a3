package main

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"galley"
	"galley/internal/rpc"
)

// An endpoint is an address that the server listens on.
type endpoint struct{ name, flag, address string }

// endpoints are the server's, in the order that its ready line has. The one for
// partners' agents is empty if there is none; it is guarded in a way of its own.
type endpoints struct{ http, grpc, metrics, partners string }

// all are those that users and programs call.
func (e endpoints) all() [3]endpoint {
	return [3]endpoint{
		{"http", "--listen-http", e.http},
		{"grpc", "--listen-grpc", e.grpc},
		{"metrics", "--listen-metrics", e.metrics},
	}
}

// anyPorts are free ports of this machine's own.
var anyPorts = endpoints{http: "127.0.0.1:0", grpc: "127.0.0.1:0", metrics: "127.0.0.1:0"}

// A protection says how the server's ports are guarded.
type protection struct {
	cert, key, clientCA string // files
	requireTokens       bool   // on loopback addresses, too
}

func (p *protection) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.cert, "tls-cert", "", "file with the server's certificate; all ports speak TLS; read again when it changes")
	c.Flags().StringVar(&p.key, "tls-key", "", "file with the certificate's key")
	c.Flags().StringVar(&p.clientCA, "tls-client-ca", "", "file with the CA that clients' certificates must come from")
	c.Flags().BoolVar(&p.requireTokens, "require-tokens", false, "ask for tokens on loopback addresses, too")
}

// check reports whether the flags go together.
func (p *protection) check() error {
	switch {
	case (p.cert == "") != (p.key == ""):
		return usagef("--tls-cert and --tls-key belong together")
	case p.clientCA != "" && p.cert == "":
		return usagef("--tls-client-ca needs --tls-cert and --tls-key")
	}
	return nil
}

// ports says which of the server's ports ask for tokens.
type ports struct{ http, grpc, metrics bool }

func (p ports) any() bool { return p.http || p.grpc || p.metrics }

// guard decides which ports ask for tokens: those that other machines reach.
// They need TLS.
func (p *protection) guard(listen endpoints) (ports, error) {
	var asks [3]bool
	for i, e := range listen.all() {
		_, local, err := resolve(e)
		if err != nil {
			return ports{}, err
		}
		if !local && p.cert == "" {
			return ports{}, galley.Errorf(galley.FailedPrecondition, e.flag+" "+e.address, "can be reached from other machines, which needs TLS and tokens").
				WithRemedy("add --tls-cert and --tls-key, or listen on 127.0.0.1")
		}
		asks[i] = !local || p.requireTokens
	}
	return ports{http: asks[0], grpc: asks[1], metrics: asks[2]}, nil
}

// resolve returns the address to listen on, where an empty host is loopback's,
// and whether only this machine reaches it.
func resolve(e endpoint) (address string, local bool, err error) {
	host, port, err := net.SplitHostPort(e.address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", false, galley.Errorf(galley.InvalidArgument, e.flag+" "+e.address, "is not HOST:PORT").WithRemedy("write %s 127.0.0.1:0", e.flag)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), isLoopback(host), nil
}

// isLoopback reports whether only this machine reaches a host. A name other
// than localhost may mean anything.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// listen opens all addresses, or none.
func (p *protection) listen(at endpoints, log *slog.Logger) (listeners [3]net.Listener, err error) {
	var cert *certificate
	if p.cert != "" {
		if cert, err = openCertificate(p.cert, p.key, p.clientCA, log); err != nil {
			return listeners, err
		}
	}
	for i, e := range at.all() {
		if listeners[i], err = e.listen(); err != nil {
			for _, l := range listeners[:i] {
				l.Close()
			}
			return listeners, err
		}
		if cert != nil {
			protocols := []string{"h2", "http/1.1"}
			if e.name == "grpc" {
				protocols = protocols[:1]
			}
			listeners[i] = tls.NewListener(listeners[i], cert.serverConfig(protocols...))
		}
	}
	return listeners, nil
}

// listen opens the address, for so many connections as a port may have.
func (e endpoint) listen() (net.Listener, error) {
	address, _, err := resolve(e)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, galley.Errorf(galley.Unavailable, e.flag+" "+address, "cannot be listened on: %w", err).
			WithRemedy("stop what uses the port, or choose another: %s 127.0.0.1:0 picks a free one", e.flag)
	}
	return rpc.LimitConnections(l, rpc.MaxConnections, rpc.MaxConnectionsAddress), nil
}
