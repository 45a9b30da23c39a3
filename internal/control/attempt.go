package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"galley"
	"galley/dataset"
	"galley/internal/durable"
	"galley/internal/store"
	"galley/trainer"
	"galley/trainer/engine"
	"galley/trainer/launch"
)

// parentFolder is where an attempt finds the model that its job goes on from,
// below the job's work folder.
const parentFolder = "parent"

// An attempt is one that runs here, from its start until its model is staged.
type attempt struct {
	number int
	ctx    context.Context // of the staging
	cancel context.CancelFunc

	mu      sync.Mutex
	stopped bool
	process launch.Attempt // nil before it is launched
	hung    string         // how, once it was found to hang
}

// stop asks the attempt to end, whatever it is at.
func (a *attempt) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	a.cancel()
	if a.process != nil {
		a.process.Stop()
	}
}

// hang kills an attempt that hangs.
func (a *attempt) hang(how string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hung == "" {
		a.hung = how
		a.process.Kill()
	}
}

func (a *attempt) whyHung() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hung
}

// launched notes the process, and stops it if that was asked meanwhile.
func (a *attempt) launched(p launch.Attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.process = p
	if a.stopped {
		p.Stop()
	}
}

// start runs an attempt beside, unless it runs or is past.
func (c *Control) start(ctx context.Context, id string, number int) error {
	j, err := c.store.Job(ctx, id)
	if err != nil || !runs(j, number) {
		return err
	}
	a := &attempt{number: number}
	held, release := c.blobs.Hold(c.life) // what it stages, until the job says so
	a.ctx, a.cancel = context.WithCancel(held)
	c.mu.Lock()
	started := c.closing || c.attempts[id] != nil && c.attempts[id].number == number
	if !started {
		c.attempts[id] = a
		c.running.Add(1)
	}
	c.mu.Unlock()
	if started {
		a.cancel()
		release()
		return nil
	}
	go func() {
		defer c.running.Done()
		defer release()
		defer a.cancel()
		e, ch := c.run(j, a)
		c.insist(id, e, ch)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.attempts[id] == a { // not the next one already
			delete(c.attempts, id)
		}
	}()
	return nil
}

// run takes an attempt from launch to its staged model, and returns what to
// tell the job.
func (c *Control) run(j trainer.Job, a *attempt) (trainer.Event, change) {
	if j.Cancelling {
		return c.crashed(a, trainer.Killed, galley.Errorf(galley.Canceled, "attempt", "was cancelled before it began")), change{}
	}
	r, err := c.request(a.ctx, j)
	if err != nil {
		return c.ended(a, err), change{}
	}
	p, err := c.launcher.Start(c.life, r)
	if err != nil {
		return c.ended(a, err), change{}
	}
	a.launched(p)
	c.listen(j.ID, a, p.Reports())
	o := p.Wait()
	switch o.Ending {
	case launch.Finished:
		return c.finish(j, a, o.Result)
	case launch.Failed:
		return trainer.Broke{At: c.now(), Attempt: a.number, Err: o.Err}, change{}
	case launch.Stopped:
		return c.crashed(a, trainer.Killed, o.Err), change{}
	default:
		if how := a.whyHung(); how != "" {
			return c.crashed(a, trainer.Hung, galley.Errorf(galley.DeadlineExceeded, "attempt", "%s, and was killed", how).
				WithRemedy("look at the log and at the machine's load: galley jobs logs")), change{}
		}
		return c.crashed(a, o.Cause, o.Err), change{}
	}
}

// ended is the event of an attempt that an error of the server's side ended.
func (c *Control) ended(a *attempt, err error) trainer.Event {
	e := galley.AsError(err)
	if passing(e) && e.Code != galley.ResourceExhausted {
		return c.crashed(a, trainer.NotStarted, e)
	}
	return trainer.Broke{At: c.now(), Attempt: a.number, Err: e}
}

// crashed is the event of an attempt that is gone. One that the server itself
// stopped does not count against the job.
func (c *Control) crashed(a *attempt, cause trainer.Cause, err *galley.Error) trainer.Event {
	if c.isClosing() {
		cause = trainer.Interrupted
	}
	return trainer.Crashed{At: c.now(), Attempt: a.number, Cause: cause, Err: err}
}

// finish stages the model of an attempt that trained to the end.
func (c *Control) finish(j trainer.Job, a *attempt, r engine.Result) (trainer.Event, change) {
	s, err := c.stage(a.ctx, j, r)
	if err != nil {
		return c.ended(a, err), change{}
	}
	return trainer.Finished{At: c.now(), Attempt: a.number, Metrics: r.Metrics}, change{staged: s}
}

// request is what an attempt gets: all by path, nothing by name.
func (c *Control) request(ctx context.Context, j trainer.Job) (engine.Request, error) {
	ref, err := galley.ParseRef(j.Data)
	if err != nil {
		return engine.Request{}, err
	}
	d, err := c.store.Dataset(ctx, ref)
	if err != nil {
		return engine.Request{}, err
	}
	r := engine.Request{
		Job: j.ID, Attempt: j.Attempt(), Spec: j.Spec, Data: d.Manifest, Records: map[string]string{}, WorkDir: c.workDir(j.ID),
	}
	for split, info := range d.Manifest.Splits {
		if split == dataset.Test {
			continue // no choice of training may see it
		}
		if r.Records[string(split)], err = c.blobs.VerifiedPath(ctx, info.Digest); err != nil {
			return r, err
		}
	}
	if err := os.MkdirAll(r.WorkDir, 0o700); err != nil {
		return r, durable.WriteError(r.WorkDir, err)
	}
	if j.Parent != "" {
		artifacts, err := c.modelFiles(ctx, j.Parent)
		if err != nil {
			return r, err
		}
		r.Parent = filepath.Join(r.WorkDir, parentFolder)
		if err := c.materialise(ctx, r.Parent, artifacts); err != nil {
			return r, err
		}
	}
	return r, c.requestTeachers(ctx, j, &r)
}

// Log lines are stored in batches: at most this often, or as many.
const (
	logEvery = 300 * time.Millisecond
	logBatch = 200
)

// listen stores what an attempt reports until it has ended. What cannot be
// stored, because the disk is full, is left out: it is progress.
func (c *Control) listen(id string, a *attempt, reports <-chan launch.Report) {
	ticks := time.NewTicker(logEvery)
	defer ticks.Stop()
	var lines []store.Line
	flush := func() {
		if len(lines) == 0 {
			return
		}
		if err := c.store.AppendLines(c.life, id, lines); err != nil && !errors.Is(err, context.Canceled) {
			c.log.Warn("lines of a job's log are lost", "job", id, "lines", len(lines), "error", err)
		}
		lines = lines[:0]
		c.changes.tell(id)
	}
	defer flush()
	began := false
	// Silence is counted in ticks that this process lived through: neither a
	// clock that is set nor a pause of the server makes an attempt hang.
	var silent, still time.Duration
	for {
		select {
		case <-ticks.C:
			flush()
			silent, still = silent+logEvery, still+logEvery
			switch {
			case silent > c.silence:
				a.hang(fmt.Sprintf("it gave no sign of life for %v", c.silence))
			case still > c.stall:
				a.hang(fmt.Sprintf("its engine reported nothing for %v", c.stall))
			}
		case r, more := <-reports:
			if !more {
				return
			}
			silent = 0
			text := r.Line
			if r.Event != nil {
				still = 0
				text = describe(*r.Event)
			}
			if text != "" {
				lines = append(lines, store.Line{At: r.At, Text: text})
			}
			if len(lines) >= logBatch {
				flush()
			}
			if r.Event == nil {
				continue
			}
			e := reported(*r.Event, c.now(), a.number)
			e.Began = !began && e.Progress.Steps > 0
			began = began || e.Began
			if _, err := c.step(c.life, id, e, change{}); err != nil && !errors.Is(err, context.Canceled) {
				c.log.Warn("progress of a job is lost", "job", id, "error", err)
			}
		}
	}
}

// reported is an engine's event as the job sees it.
func reported(e engine.Event, at time.Time, number int) trainer.Reported {
	r := trainer.Reported{At: at, Attempt: number, Metrics: e.Metrics}
	if e.Steps > 0 {
		r.Progress = trainer.Progress{Step: e.Step, Steps: e.Steps, Epoch: e.Epoch, Loss: e.Loss, LR: e.LR}
	}
	if e.Kind == engine.Checkpointed {
		r.Checkpoint = e.Step
	}
	return r
}

// describe writes an event as a line of the log, "" if it says nothing new.
func describe(e engine.Event) string {
	at := fmt.Sprintf("step %d/%d", e.Step, e.Steps)
	switch e.Kind {
	case engine.Started:
		if e.Message == "" {
			return "started at " + at
		}
		return "started at " + at + ": " + e.Message
	case engine.Progress:
		if e.Message != "" { // of what does not train
			return at + ": " + e.Message
		}
		return fmt.Sprintf("%s epoch %d loss %.4f lr %.3g grad norm %.3g, %d rows/s", at, e.Epoch, e.Loss, e.LR, e.GradNorm, e.Rows)
	case engine.Validated:
		return fmt.Sprintf("%s epoch %d validation %s", at, e.Epoch, metricsLine(e.Metrics))
	default:
		return e.Message
	}
}
