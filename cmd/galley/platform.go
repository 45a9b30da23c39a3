package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	controlpb "galley/api/control/v1"
	newsroompb "galley/api/newsroom/v1"

	"galley/internal/auth"
	"galley/internal/blob"
	"galley/internal/control"
	"galley/internal/ort/probe"
	"galley/internal/rpc"
	"galley/internal/store/sqlite"
	"galley/internal/telemetry"
	"galley/registry"
	"galley/serving"
	"galley/trainer/launch/process"
)

// A platform is an open home with all that serves it.
type platform struct {
	store   *sqlite.Store
	control *control.Control
	table   *serving.Table
	server  *rpc.Server  // gRPC
	http    *http.Server // the inference protocol, the control API
	metrics *http.Server
	access  *rpc.Access
	figures *rpc.Metrics
	// partners answers the agents of partners; nil if no port is open for them.
	partners *rpc.PartnersServer
	tracer   *telemetry.Tracer
	stop     context.CancelFunc
	stopped  chan struct{} // the control loop has ended
}

// openPlatform takes over the home and starts its control loop. asks are the
// ports that ask for tokens.
func (a *app) openPlatform(ctx context.Context, asks ports, log *slog.Logger) (p *platform, err error) {
	p = &platform{stopped: make(chan struct{})}
	if p.store, err = sqlite.Open(ctx, a.home); err != nil {
		return nil, err
	}
	defer func(opened *sqlite.Store) {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}(p.store)
	tokens, err := control.OpenTokens(ctx, p.store, nil)
	if err != nil {
		return nil, err
	}
	if asks.any() && !tokens.HasLive(auth.Admin) {
		return nil, needAdmin(a.home)
	}
	blobs, err := blob.Open(filepath.Join(a.home, "blobs"), blob.Options{})
	if err != nil {
		return nil, err
	}
	r, prober := a.newRuntime(), probe.New(probeName)
	p.table = serving.NewTable(p.store, opener(blobs, r, prober))
	p.table.Freed = r.trim
	p.control, err = control.Open(ctx, control.Options{
		Home: a.home, Store: p.store, Blobs: blobs, Opener: cautious{r, prober}, Drivers: a.drivers(r),
		Launcher: process.Launcher{Args: []string{attemptName}},
		Logger:   log, Revision: revision,
		Switch: func(ctx context.Context, change registry.Change) error {
			if change.Alias != registry.Prod {
				return p.table.Refresh(ctx, change.Model)
			}
			return p.table.Follow(ctx, change.Model)
		},
		Forget:  p.table.Forget,
		Traffic: control.Traffic{Route: p.table.SetRoute, Signature: p.table.Signature},
	})
	if err != nil {
		return nil, err
	}
	if p.tracer, err = telemetry.NewTracer(ctx, a.env, revision, log); err != nil {
		return nil, errors.Join(err, p.control.Close(ctx))
	}
	metrics := rpc.NewMetrics()
	metrics.WatchJobs(p.control)
	metrics.WatchModels(p.table)
	metrics.WatchExperiments(p.control)
	inference := &rpc.Inference{Table: p.table, Store: p.store, Name: "galley", Version: revision, Metrics: metrics, Signer: p.control.Signer()}
	access := rpc.NewAccess(tokens, log)
	metrics.WatchAccess(access)
	p.access, p.figures = access, metrics
	p.server = rpc.NewServer(inference, rpc.NewControl(p.control), log, rpc.WithEntrances(access.Entrance(asks.grpc), access.Entrance(asks.http)), rpc.WithTracer(p.tracer))
	inference.Ready = p.server.Ready
	controlpb.RegisterAccessServer(p.server, rpc.NewTokens(tokens))
	controlpb.RegisterAuditServer(p.server, rpc.NewAudit(p.control))
	controlpb.RegisterMaintenanceServer(p.server, rpc.NewMaintenance(p.control))
	controlpb.RegisterBatchServer(p.server, rpc.NewBatch(p.control))
	controlpb.RegisterExperimentsServer(p.server, rpc.NewExperiments(p.control))
	controlpb.RegisterFederationsServer(p.server, rpc.NewFederations(p.control))
	newsroompb.RegisterNewsroomServer(p.server, rpc.NewNewsroom(inference, p.control))
	p.http = rpc.NewHTTPServer(rpc.NewHTTPHandler(p.server), log)
	p.metrics = rpc.NewHTTPServer(rpc.NewMetricsHandler(metrics, access.Entrance(asks.metrics)), log)
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	go func() {
		defer close(p.stopped)
		p.control.Run(loop)
	}()
	return p, nil
}

// close drains: requests under way are answered, attempts store checkpoints,
// until ctx ends.
func (p *platform) close(ctx context.Context) error {
	// Who follows a job would otherwise be waited for.
	p.control.Drain()
	var answering sync.WaitGroup
	answering.Go(func() { p.server.Shutdown(ctx) })
	answering.Go(func() { shutDown(ctx, p.http) })
	if p.partners != nil {
		answering.Go(func() { p.partners.Shutdown(ctx) })
	}
	answering.Wait()
	p.stop()
	<-p.stopped
	err := p.control.Close(ctx)
	// Metrics last: the end is of interest too.
	shutDown(ctx, p.metrics)
	p.table.Close()
	return errors.Join(err, p.store.Close(), p.tracer.Close(ctx))
}

// shutDown waits for the requests under way until ctx ends; then it cuts them
// off.
func shutDown(ctx context.Context, s *http.Server) {
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
}

// drainTime is how long a server that is asked to stop takes at most.
const drainTime = 30 * time.Second
