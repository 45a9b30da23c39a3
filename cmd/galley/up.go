package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"galley/internal/processors"
	"galley/internal/telemetry"
)

func (a *app) upCommand() *cobra.Command {
	var listen endpoints
	c := &cobra.Command{
		Use: "up", Short: "Run the server",
		Long: `Run the server: the Open Inference Protocol and the control API, each over HTTP
and gRPC, and Prometheus metrics at /metrics. It prints a line
"ready http=HOST:PORT grpc=HOST:PORT metrics=HOST:PORT" on stderr once it
serves. SIGTERM drains: requests are answered, running jobs store a checkpoint
and go on at the next start.

On loopback addresses, whoever is on this machine may call it. An address that
other machines reach needs TLS, and a token of each caller: see galley auth.

--partners opens a port for the agents of partner institutions, and nothing
else: each shows the certificate that galley federation enrol took in, and knows
the server by its own. That is --tls-cert, or one that is made once and kept in
the home, which galley up names.`,
		Example: "  galley up\n  galley up --listen-http :0 --listen-grpc :0 --listen-metrics :0 --home /srv/galley\n  galley up --listen-http 0.0.0.0:8000 --listen-grpc 0.0.0.0:8001 --tls-cert server.pem --tls-key server.key\n  galley up --partners 0.0.0.0:8003",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.protection.check(); err != nil {
				return err
			}
			if err := a.logs.check(); err != nil {
				return err
			}
			if a.drainWait < 0 || a.drainWait > maxDrainWait {
				return usagef("--drain-wait %s: write a time from 0s to %s", a.drainWait, maxDrainWait)
			}
			return a.up(cmd.Context(), listen, nil)
		},
	}
	c.Flags().Var(addressFlag(&listen.http, "--listen-http", "127.0.0.1:8000"), "listen-http", "address of the APIs over HTTP; port 0 picks one")
	c.Flags().Var(addressFlag(&listen.grpc, "--listen-grpc", "127.0.0.1:8001"), "listen-grpc", "address of the gRPC APIs; port 0 picks one")
	c.Flags().Var(addressFlag(&listen.metrics, "--listen-metrics", "127.0.0.1:8002"), "listen-metrics", "address of the metrics; port 0 picks one")
	c.Flags().Var(addressFlag(&listen.partners, "--partners", ""), "partners", "address for agents of partners in federated training, over TLS; none if not given")
	c.Flags().DurationVar(&a.drainWait, "drain-wait", 0, "after SIGTERM, answer on this long while health says not ready, so that callers go elsewhere; at most 20s")
	a.logs.flags(c)
	a.protection.flags(c)
	c.Flags().DurationVar(&a.unloadIdle, "unload-idle", 30*time.Minute, "close models that nobody has asked for this long; 0 keeps them")
	return c
}

// up serves until ctx ends; ready, if not nil, gets the addresses.
func (a *app) up(ctx context.Context, listen endpoints, ready func(endpoints)) error {
	asks, err := a.protection.guard(listen)
	if err != nil {
		return err
	}
	log, err := telemetry.NewLogger(a.err, a.logs.format, slog.LevelInfo)
	if err != nil {
		return err
	}
	processors.Serve()
	// The home before the ports: a second server on it learns who owns it.
	p, err := a.openPlatform(ctx, asks, log)
	if err != nil {
		return err
	}
	if a.unloadIdle > 0 {
		go p.table.UnloadIdle(ctx, a.unloadIdle)
	}
	listeners, err := a.protection.listen(listen, log)
	if err != nil {
		return errors.Join(err, p.drain(ctx))
	}
	forPartners, err := a.listenForPartners(listen, p, log)
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return errors.Join(err, p.drain(ctx))
	}
	served := make(chan error, len(listeners)+1)
	go func() { served <- p.http.Serve(listeners[0]) }()
	go func() { served <- p.server.Serve(listeners[1]) }()
	go func() { served <- p.metrics.Serve(listeners[2]) }()
	waiting := len(listeners)
	at := endpoints{http: listeners[0].Addr().String(), grpc: listeners[1].Addr().String(), metrics: listeners[2].Addr().String()}
	line := fmt.Sprintf("ready http=%s grpc=%s metrics=%s", at.http, at.grpc, at.metrics)
	if forPartners != nil {
		waiting++
		at.partners = forPartners.Addr().String()
		line += " partners=" + at.partners
		go func() { served <- p.partners.Serve(forPartners) }()
	}
	fmt.Fprintln(a.err, line)
	if ready != nil {
		ready(at)
	}
	var failed error
	select {
	case failed = <-served:
		waiting--
	case <-ctx.Done():
		fmt.Fprintln(a.err, "draining")
	}
	if failed == nil {
		p.server.Drain()
		time.Sleep(a.drainWait)
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

// maxDrainWait leaves time to drain before those who stop servers lose patience,
// commonly after 30 seconds.
const maxDrainWait = 20 * time.Second

// drain closes the platform in bounded time, also when ctx has ended.
func (p *platform) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	return p.close(ctx)
}
