package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"galley"
)

// An endpoint is an address that the server listens on.
type endpoint struct{ name, flag, address string }

// endpoints are the server's three, in the order that its ready line has.
type endpoints struct{ http, grpc, metrics string }

func (e endpoints) all() [3]endpoint {
	return [3]endpoint{
		{"http", "--listen-http", e.http},
		{"grpc", "--listen-grpc", e.grpc},
		{"metrics", "--listen-metrics", e.metrics},
	}
}

// anyPorts are free ports of this machine's own.
var anyPorts = endpoints{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"}

func (a *app) upCommand() *cobra.Command {
	var listen endpoints
	c := &cobra.Command{
		Use: "up", Short: "Run the server",
		Long: `Run the server: the Open Inference Protocol over HTTP and gRPC, the control API
over gRPC, and Prometheus metrics at /metrics. It prints a line
"ready http=HOST:PORT grpc=HOST:PORT metrics=HOST:PORT" on stderr once it
serves. SIGTERM drains: requests are answered, running jobs store a checkpoint
and go on at the next start.

The server listens on loopback only: whoever is on this machine may call it.`,
		Example: "  galley up\n  galley up --listen-http :0 --listen-grpc :0 --listen-metrics :0 --home /srv/galley",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.up(cmd.Context(), listen, nil)
		},
	}
	c.Flags().StringVar(&listen.http, "listen-http", "127.0.0.1:8000", "address of the inference protocol over HTTP; port 0 picks one")
	c.Flags().StringVar(&listen.grpc, "listen-grpc", "127.0.0.1:8001", "address of the gRPC APIs; port 0 picks one")
	c.Flags().StringVar(&listen.metrics, "listen-metrics", "127.0.0.1:8002", "address of the metrics; port 0 picks one")
	c.Flags().DurationVar(&a.unloadIdle, "unload-idle", 30*time.Minute, "close models that nobody has asked for this long; 0 keeps them")
	return c
}

// up serves until ctx ends; ready, if not nil, gets the addresses.
func (a *app) up(ctx context.Context, listen endpoints, ready func(endpoints)) error {
	for _, e := range listen.all() {
		if _, err := loopback(e); err != nil {
			return err
		}
	}
	// The home first: a second server on it learns who owns it.
	log := slog.New(slog.NewTextHandler(a.err, nil))
	p, err := a.openPlatform(ctx, log)
	if err != nil {
		return err
	}
	if a.unloadIdle > 0 {
		go p.table.UnloadIdle(ctx, a.unloadIdle)
	}
	listeners, err := listenAll(listen)
	if err != nil {
		return errors.Join(err, p.drain(ctx))
	}
	served := make(chan error, len(listeners))
	go func() { served <- p.http.Serve(listeners[0]) }()
	go func() { served <- p.server.Serve(listeners[1]) }()
	go func() { served <- p.metrics.Serve(listeners[2]) }()
	at := endpoints{listeners[0].Addr().String(), listeners[1].Addr().String(), listeners[2].Addr().String()}
	fmt.Fprintf(a.err, "ready http=%s grpc=%s metrics=%s\n", at.http, at.grpc, at.metrics)
	if ready != nil {
		ready(at)
	}
	var failed error
	waiting := len(listeners)
	select {
	case failed = <-served:
		waiting--
	case <-ctx.Done():
		fmt.Fprintln(a.err, "draining")
	}
	failed = errors.Join(failed, p.drain(ctx))
	for range waiting {
		// Those that end before they have begun say that they are closed.
		if err := <-served; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// listenAll opens all addresses, or none.
func listenAll(listen endpoints) (listeners [3]net.Listener, err error) {
	for i, e := range listen.all() {
		var address string
		if address, err = loopback(e); err == nil {
			listeners[i], err = net.Listen("tcp", address)
		}
		if err != nil {
			for _, l := range listeners[:i] {
				l.Close()
			}
			return listeners, galley.Errorf(galley.Unavailable, e.flag+" "+address, "cannot be listened on: %w", err).
				WithRemedy("stop what uses the port, or choose another: %s 127.0.0.1:0 picks a free one", e.flag)
		}
	}
	return listeners, nil
}

// drain closes the platform in bounded time, also when ctx has ended.
func (p *platform) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	return p.close(ctx)
}

// loopback returns the address to listen on: an empty host is loopback's. It
// refuses addresses that others could reach: this version has neither TLS nor
// tokens.
func loopback(e endpoint) (string, error) {
	host, port, err := net.SplitHostPort(e.address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", galley.Errorf(galley.InvalidArgument, e.flag+" "+e.address, "is not HOST:PORT").WithRemedy("write %s 127.0.0.1:0", e.flag)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return net.JoinHostPort(host, port), nil
	}
	return "", galley.Errorf(galley.FailedPrecondition, e.flag+" "+e.address, "can be reached from other machines, which needs TLS and tokens, and they are not there yet").
		WithRemedy("listen on 127.0.0.1")
}
