package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"galley"
)

func (a *app) upCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use: "up", Short: "Run the server",
		Long: `Run the server: the Open Inference Protocol, the control API, health and
reflection over gRPC. It prints a line "ready grpc=HOST:PORT" on stderr once it
serves. SIGTERM drains: requests are answered, running jobs store a checkpoint
and go on at the next start.

The server listens on loopback only: whoever is on this machine may call it.`,
		Example: "  galley up\n  galley up --listen-grpc 127.0.0.1:0 --home /srv/galley",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.up(cmd.Context(), listen, nil)
		},
	}
	c.Flags().StringVar(&listen, "listen-grpc", "127.0.0.1:8001", "address of the gRPC API; port 0 picks one")
	return c
}

// up serves until ctx ends; ready, if not nil, gets the address.
func (a *app) up(ctx context.Context, address string, ready func(address string)) error {
	if err := checkLoopback(address); err != nil {
		return err
	}
	// The home first: a second server on it learns who owns it.
	log := slog.New(slog.NewTextHandler(a.err, nil))
	p, err := a.openPlatform(ctx, log)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		err = galley.Errorf(galley.Unavailable, address, "cannot be listened on: %w", err).
			WithRemedy("stop what uses the port, or choose another with --listen-grpc 127.0.0.1:0")
		return errors.Join(err, p.drain(ctx))
	}
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(listener) }()
	fmt.Fprintf(a.err, "ready grpc=%s\n", listener.Addr())
	if ready != nil {
		ready(listener.Addr().String())
	}
	select {
	case err := <-served:
		return errors.Join(err, p.drain(ctx))
	case <-ctx.Done():
	}
	fmt.Fprintln(a.err, "draining")
	err = p.drain(ctx)
	return errors.Join(err, <-served)
}

// drain closes the platform in bounded time, also when ctx has ended.
func (p *platform) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	return p.close(ctx)
}

// checkLoopback refuses addresses that others could reach: this version has
// neither TLS nor tokens.
func checkLoopback(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return galley.Errorf(galley.InvalidArgument, address, "is not HOST:PORT").WithRemedy("write --listen-grpc 127.0.0.1:8001")
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return nil
	}
	return galley.Errorf(galley.FailedPrecondition, address, "can be reached from other machines, which needs TLS and tokens, and they are not there yet").
		WithRemedy("listen on 127.0.0.1")
}
