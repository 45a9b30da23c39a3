// Package control is what makes things happen: it takes requests, keeps the
// queue of jobs, runs their attempts, publishes what they trained, and moves
// aliases.
//
//	Submit -> job queued -> scheduler's plan: Placed -> effect: start the attempt
//	       -> its reports: Reported -> it ends: stage the bundle, Finished
//	       -> effect: publish -> registry version, reports, alias candidate
//
// A job changes only through trainer.Step. Each change is stored with the
// effects that it asks for in one transaction; effects are performed
// afterwards, are idempotent, and stay pending until they are done. So a crash
// at any moment heals when the home is opened again: attempts that were
// running are requeued and go on from their last checkpoint.
package control

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"galley"
	"galley/internal/blob"
	"galley/internal/durable"
	"galley/internal/processors"
	"galley/internal/store/sqlite"
	"galley/onnx/session"
	"galley/registry"
	"galley/scheduler"
	"galley/trainer"
	"galley/trainer/engine"
	"galley/trainer/launch"
)

// Candidate is the alias of the newest version that a job published.
const Candidate = "candidate"

// The folders of a home that are control's.
const (
	workFolder  = "work"  // a folder a job, kept between attempts
	tempFolder  = "tmp"   // emptied at the start
	cacheFolder = "cache" // what can be computed again
)

// maxEvaluations is how many evaluations run at once; others wait.
const maxEvaluations = 2

// Options make a Control. Store, Blobs, Launcher, Drivers and Opener must be set.
type Options struct {
	Home     string
	Store    *sqlite.Store
	Blobs    *blob.Store
	Launcher launch.Launcher
	Drivers  engine.Drivers     // engines that the launcher's attempts have
	Opener   session.Opener     // runs models to evaluate them
	CPUs     int                // shared by attempts; the machine's if 0
	Tenants  []scheduler.Tenant // weights and quotas; those of the home's tenants.yaml if nil
	Silence  time.Duration      // without a sign of life until an attempt is killed; 1 minute if 0
	Stall    time.Duration      // without an event of its engine until then; 1 hour if 0
	Clock    func() time.Time   // time.Now if nil
	Logger   *slog.Logger       // slog.Default() if nil
	// Switch is called after an alias has moved or, with a change without
	// alias, a version is new, before the request that did it is answered:
	// serving opens what traffic goes to now.
	Switch func(context.Context, registry.Change) error
	// Forget is called after a version was deleted: serving closes it.
	Forget func(model string, number int)
	// Traffic is how experiments reach serving.
	Traffic Traffic
	// Revision is galley's own version, for lineage.
	Revision string
	// Gather is how long a federation's next round waits, after a start, for
	// agents that are not back yet; 10 seconds if 0.
	Gather time.Duration
	// Patience is how long it takes until what failed of a federation is tried
	// again, longer with each time; a second if 0.
	Patience time.Duration
	// SpoolBytes bounds the updates of partners that lie below tmp while they
	// come; those beyond wait. 8 GiB if 0; one is always let in.
	SpoolBytes int64
}

// A Control runs one home.
type Control struct {
	home     string
	store    *sqlite.Store
	blobs    *blob.Store
	launcher launch.Launcher
	drivers  engine.Drivers
	opener   session.Opener
	cpus     int
	board    *board
	silence  time.Duration
	stall    time.Duration
	clock    func() time.Time
	log      *slog.Logger
	switched func(context.Context, registry.Change) error
	forget   func(model string, number int)
	revision string

	traffic  Traffic
	routes   routes
	outcomes outcomes

	pipelines  driven
	unfinished []string // pipelines that ran when the home was opened

	roll        roll
	presence    presence
	federations federations
	federating  driven   // their jobs
	interrupted []string // jobs of kind Federate that ran when the home was opened
	gather      time.Duration
	patience    time.Duration // before what failed of a federation is tried again
	spool       *spoolRoom

	signer     signer
	changes    hub
	evaluating chan struct{} // one for each evaluation under way
	batches    chan struct{} // one for each batch prediction under way
	wake       chan struct{} // something is to be scheduled or performed

	life    context.Context // of attempts and effects
	end     context.CancelFunc
	running sync.WaitGroup
	passes  sync.Mutex // one pass at a time
	filled  bool       // the board has the jobs that were there before; of passes
	commits sync.Mutex // a job is stored and put onto the board by one at a time

	mu       sync.Mutex
	closing  bool
	draining chan struct{}       // closed when closing
	attempts map[string]*attempt // by job
	busy     map[effectKey]bool  // effects being performed
}

// Open takes over a home whose store and blobs are open, and heals what a
// crash left behind. Nothing runs before Run.
func Open(ctx context.Context, o Options) (*Control, error) {
	c := &Control{
		home: o.Home, store: o.Store, blobs: o.Blobs, launcher: o.Launcher, drivers: o.Drivers, opener: o.Opener,
		cpus: o.CPUs, silence: o.Silence, stall: o.Stall, clock: o.Clock, log: o.Logger, switched: o.Switch, forget: o.Forget, revision: o.Revision,
		wake: make(chan struct{}, 1), draining: make(chan struct{}), evaluating: make(chan struct{}, maxEvaluations), batches: make(chan struct{}, maxBatches),
		attempts: map[string]*attempt{}, busy: map[effectKey]bool{},
	}
	if c.cpus <= 0 {
		c.cpus = processors.Cores()
	}
	if c.silence <= 0 {
		c.silence = time.Minute
	}
	if c.stall <= 0 {
		c.stall = time.Hour
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	c.traffic = o.Traffic
	if c.gather = o.Gather; c.gather <= 0 {
		c.gather = 10 * time.Second
	}
	if c.patience = o.Patience; c.patience <= 0 {
		c.patience = time.Second
	}
	c.spool = newSpoolRoom(o.SpoolBytes)
	var err error
	if c.home, err = filepath.Abs(c.home); err != nil {
		return nil, durable.WriteError(c.home, err)
	}
	tenants := o.Tenants
	if tenants == nil {
		if tenants, err = readTenants(c.home); err != nil {
			return nil, err
		}
	}
	c.board = newBoard(machine(c.cpus), tenants)
	if err := os.RemoveAll(c.temp()); err != nil {
		return nil, durable.WriteError(c.temp(), err)
	}
	for _, dir := range []string{c.temp(), filepath.Join(c.home, workFolder)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, durable.WriteError(dir, err)
		}
	}
	c.life, c.end = context.WithCancel(context.Background())
	if err := c.openExperiments(ctx); err != nil {
		return nil, err
	}
	if err := c.readRoll(ctx); err != nil {
		return nil, err
	}
	return c, c.heal(ctx)
}

// heal ends the attempts that ran when the server went away.
func (c *Control) heal(ctx context.Context) error {
	jobs, err := c.jobs(ctx, trainer.Running)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		c.board.restore(j)
		if j.Spec.Kind == trainer.KindPipeline { // its state says what is to be done
			c.unfinished = append(c.unfinished, j.ID)
			continue
		}
		if j.Spec.Kind == trainer.KindFederate { // likewise
			c.beginRun(j)
			c.interrupted = append(c.interrupted, j.ID)
			continue
		}
		lost := galley.Errorf(galley.Aborted, j.ID, "the server went away while the attempt ran")
		if _, err := c.step(ctx, j.ID, trainer.Crashed{At: c.now(), Attempt: j.Attempt(), Cause: trainer.Interrupted, Err: lost}, change{}); err != nil {
			return err
		}
	}
	return nil
}

// Run schedules jobs and performs effects until ctx ends.
func (c *Control) Run(ctx context.Context) {
	const patience = 2 * time.Second // until what failed is tried again
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { c.sweepAtTimes(ctx) })
	beside.Go(func() { c.watchExperiments(ctx) })
	again := time.NewTicker(patience)
	defer again.Stop()
	c.resumePipelines()
	c.resumeFederations()
	c.kick()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-again.C:
			c.board.stir()
		}
		c.pass(ctx)
	}
}

// pass performs what is pending and places what is queued.
func (c *Control) pass(ctx context.Context) {
	c.passes.Lock()
	defer c.passes.Unlock()
	for _, work := range []func(context.Context) error{c.schedule, c.performPending} {
		if err := work(ctx); err != nil && !errors.Is(err, context.Canceled) {
			c.log.Error("control loop", "error", err)
		}
	}
}

// Drain begins the end: nothing new starts, attempts are asked to store
// checkpoints and stop, and who follows a job is told to come back later.
func (c *Control) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.closing = true
	close(c.draining)
	for _, a := range c.attempts {
		a.stop()
	}
}

// Close drains and waits until the attempts have ended or ctx has; then it
// kills them. Their jobs go on when the home is opened again.
func (c *Control) Close(ctx context.Context) error {
	c.Drain()
	done := make(chan struct{})
	go func() {
		c.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	c.end()
	<-done
	if err := os.RemoveAll(c.temp()); err != nil {
		return durable.WriteError(c.temp(), err)
	}
	return nil
}

func (c *Control) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

func (c *Control) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *Control) now() time.Time { return c.clock().UTC() }

func (c *Control) temp() string { return filepath.Join(c.home, tempFolder) }

func (c *Control) workDir(job string) string { return filepath.Join(c.home, workFolder, job) }
