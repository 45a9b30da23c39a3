package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"galley"
	"galley/internal/auth"
	"galley/internal/store"
	"galley/trainer"
)

// maxPipelines bounds the pipelines that run; each has a goroutine.
const maxPipelines = 200

// resumePipelines drives those that ran when the server went away.
func (c *Control) resumePipelines() {
	for _, id := range c.unfinished {
		c.drivePipeline(id)
	}
	c.unfinished = nil
}

// drivePipeline has a goroutine drive a pipeline to its end. Driving one that
// is driven, or has ended, changes nothing.
func (c *Control) drivePipeline(id string) {
	c.drive(&c.pipelines, id, func(ctx context.Context, cancel context.CancelFunc, signal <-chan struct{}) {
		p := &pipeline{c: c, id: id, busy: map[string]context.CancelFunc{}}
		p.drive(ctx, signal)
		cancel()
		p.beside.Wait()
	})
}

// A pipeline is one that is driven.
type pipeline struct {
	c      *Control
	id     string
	beside sync.WaitGroup // measurements and promotions under way

	mu   sync.Mutex
	busy map[string]context.CancelFunc // of them, by step
}

// drive does the duties of the pipeline's steps until it is final.
func (p *pipeline) drive(ctx context.Context, signal <-chan struct{}) {
	const patience = 2 * time.Second // until what failed is tried again
	again := time.NewTicker(patience)
	defer again.Stop()
	for {
		select {
		case <-p.c.draining:
			return
		case <-ctx.Done():
			return
		case <-signal:
		case <-again.C:
		}
		done, err := p.pass(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			p.c.log.Error("a pipeline cannot go on; it is tried again", "job", p.id, "error", err)
		}
		if done && p.c.pipelines.leave(p.id) {
			return
		}
	}
}

// pass does all that can be done now.
func (p *pipeline) pass(ctx context.Context) (done bool, err error) {
	for {
		busy := p.under() // before the job is read: what ends meanwhile is in it
		j, err := p.c.store.Job(ctx, p.id)
		if galley.CodeOf(err) == galley.NotFound {
			return true, nil
		}
		if err != nil || j.Phase.Final() {
			return err == nil, err
		}
		acted := false
		for _, s := range j.Steps {
			if stop := busy[s.ID]; stop != nil {
				if j.Cancelling {
					stop()
				}
				continue
			}
			did, stepErr := p.tend(ctx, j, s)
			acted, err = acted || did, errors.Join(err, stepErr)
		}
		if err != nil || !acted {
			return false, err
		}
	}
}

// tend does the duty of a step; did says that there was one.
func (p *pipeline) tend(ctx context.Context, j trainer.Job, s trainer.StepState) (did bool, err error) {
	var child *trainer.Job
	if s.Phase == trainer.Running && s.Job != "" {
		of, err := p.c.store.Job(ctx, s.Job)
		if err == nil {
			child = &of
		} else if galley.CodeOf(err) != galley.NotFound {
			return false, err
		}
	}
	duty := j.Duty(s, child)
	ctx = auth.WithCaller(ctx, auth.Caller{Actor: j.Owner, Tenant: j.OnBehalf})
	switch duty {
	case trainer.Await:
		return false, nil
	case trainer.Start:
		err = p.step(ctx, trainer.StepStarted{At: p.c.now(), Step: s.ID})
	case trainer.Perform:
		err = p.perform(ctx, j, s)
	case trainer.Submit:
		err = p.c.submitStep(ctx, j, s)
		if _, stored := p.c.store.Job(ctx, s.Job); err != nil && stored == nil {
			return true, nil // it was stored, whatever the answer was
		}
	case trainer.Reopen:
		_, err = p.c.Resume(ctx, j.Owner, s.Job)
		if galley.CodeOf(err) == galley.FailedPrecondition {
			return false, nil // someone else resumed it
		}
	case trainer.Reopened:
		err = p.step(ctx, trainer.StepResumed{At: p.c.now(), Step: s.ID})
	case trainer.Stop:
		_, err = p.c.Cancel(ctx, j.Owner, s.Job)
		if galley.CodeOf(err) == galley.FailedPrecondition {
			return false, nil // it is being published, and ends by itself
		}
	case trainer.Conclude:
		err = p.step(ctx, conclusion(p.c.now(), s, child))
	}
	if err == nil || momentary(err) || ctx.Err() != nil {
		return err == nil, err
	}
	if duty == trainer.Perform || duty == trainer.Submit || duty == trainer.Reopen {
		return true, p.fail(ctx, s, err)
	}
	return false, err
}

// conclusion is how a step ended whose job did, or that was cancelled before it
// had one.
func conclusion(at time.Time, s trainer.StepState, child *trainer.Job) trainer.StepEnded {
	e := trainer.StepEnded{At: at, Step: s.ID, Phase: trainer.Cancelled}
	if child != nil {
		e.Phase, e.Job, e.Err = child.Phase, child.ID, child.Error
	}
	if child != nil && len(child.Versions) > 0 {
		e.Version = child.Versions[0]
	}
	return e
}

// fail ends a step with an error that would come again.
func (p *pipeline) fail(ctx context.Context, s trainer.StepState, err error) error {
	e := trainer.StepEnded{At: p.c.now(), Step: s.ID, Phase: trainer.Failed, Err: galley.AsError(err)}
	if s.Resuming {
		e.Job = s.Job
	}
	return p.step(ctx, e)
}

// momentary reports whether an error is one of the moment: nothing is wrong with
// what was asked for.
func momentary(err error) bool {
	switch e := galley.AsError(err); e.Code {
	case galley.Unavailable, galley.Aborted, galley.Canceled:
		return true
	case galley.ResourceExhausted:
		return e.Subject == "queue"
	default:
		return errors.Is(err, context.Canceled)
	}
}

// step lets an event happen to the pipeline, which is noted in its log first:
// who follows the log leaves when the pipeline is final.
func (p *pipeline) step(ctx context.Context, e trainer.Event) error {
	ctx = context.WithoutCancel(ctx)
	before, err := p.c.store.Job(ctx, p.id)
	if err != nil {
		return err
	}
	after, _, err := trainer.Step(before, e)
	if err != nil {
		return err
	}
	if lines := stepLines(p.c.now(), before, after, e); len(lines) > 0 {
		if err := p.c.store.AppendLines(ctx, p.id, lines); err != nil {
			p.c.log.Error("the log of a pipeline cannot be written", "job", p.id, "error", err)
		}
	}
	_, err = p.c.step(ctx, p.id, e, change{})
	return err
}

// stepLines are what an event's steps are said to be in the log.
func stepLines(at time.Time, before, after trainer.Job, e trainer.Event) (lines []store.Line) {
	switch e.(type) {
	case trainer.StepPinned, trainer.StepEnded:
	default:
		return nil
	}
	for i, s := range after.Steps {
		if !reflect.DeepEqual(before.Steps[i], s) {
			lines = append(lines, store.Line{At: at, Text: stepLine(s)})
		}
	}
	return lines
}

// stepLine says how a step is.
func stepLine(s trainer.StepState) string {
	switch {
	case s.Phase == trainer.Succeeded && s.Reused:
		return fmt.Sprintf("step %s: unchanged, its result is %s%s", s.ID, s.Version, found(s))
	case s.Phase == trainer.Succeeded:
		return fmt.Sprintf("step %s: succeeded with %s%s", s.ID, s.Version, found(s))
	case s.Error != nil:
		return fmt.Sprintf("step %s: %s: %v", s.ID, s.Phase, s.Error)
	case s.Job != "" && s.Phase == trainer.Running:
		return fmt.Sprintf("step %s: is job %s", s.ID, s.Job)
	default:
		return fmt.Sprintf("step %s: %s", s.ID, s.Phase)
	}
}

// found is what a step measured, after what it measured.
func found(s trainer.StepState) string {
	if s.Found == "" {
		return ""
	}
	return ": " + s.Found
}

// under are the measurements and promotions under way, by step.
func (p *pipeline) under() map[string]context.CancelFunc {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.busy)
}

// explainPipeline says how the steps of a pipeline are.
func explainPipeline(j trainer.Job, say func(string, ...any)) {
	for i, s := range j.Steps {
		var waits []string
		for _, id := range j.Spec.Steps[i].Requires() {
			k := slices.IndexFunc(j.Steps, func(s trainer.StepState) bool { return s.ID == id })
			if k >= 0 && j.Steps[k].Phase != trainer.Succeeded {
				waits = append(waits, id)
			}
		}
		switch {
		case s.Phase == trainer.Queued && len(waits) > 0 && j.Phase == trainer.Running:
			say("step %s waits for %s", s.ID, strings.Join(waits, ", "))
		case s.Phase == trainer.Queued && j.Phase.Final():
			say("step %s was not run", s.ID)
		default:
			say("%s", stepLine(s))
		}
	}
	if j.Phase == trainer.Failed || j.Phase == trainer.Cancelled {
		say("galley jobs resume %s goes on with the steps that have not succeeded; or mend the file and submit it again", j.ID)
	}
}
