package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"

	"galley/trainer"
)

// pipelineProgress shows how the steps of a pipeline come along: a tree of bars
// on a terminal, lines elsewhere. It follows the jobs of the steps that run.
type pipelineProgress struct {
	out    io.Writer
	client *client
	life   context.Context // of the streams that it follows
	end    context.CancelFunc
	watch  sync.WaitGroup
	bars   *mpb.Progress

	mu       sync.Mutex
	shown    map[string]*mpb.Bar        // by step
	steps    map[string]*controlpb.Step // as they were last
	notes    notes                      // behind the bars
	watching map[string]bool            // jobs
}

// notes are texts by step. They have a lock of their own: bars read them while
// whoever changes a bar waits for it.
type notes struct {
	mu   sync.Mutex
	text map[string]string
}

func (n *notes) get(step string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text[step]
}

func (n *notes) set(step, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text[step] = text
}

func newPipelineProgress(ctx context.Context, out io.Writer, c *client) *pipelineProgress {
	p := &pipelineProgress{
		out: out, client: c, shown: map[string]*mpb.Bar{}, steps: map[string]*controlpb.Step{}, notes: notes{text: map[string]string{}}, watching: map[string]bool{},
	}
	p.life, p.end = context.WithCancel(ctx)
	if terminal(out) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(24))
	}
	return p
}

// update shows the pipeline's newest state.
func (p *pipelineProgress) update(j *controlpb.Job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars != nil && len(p.shown) == 0 {
		p.plant(j)
	}
	for _, s := range j.GetSteps() {
		was := p.steps[s.GetId()]
		p.steps[s.GetId()] = s
		if was.GetPhase() != s.GetPhase() {
			p.changed(was, s)
		}
		if s.GetPhase() == string(trainer.Running) && s.GetJob() != "" && !p.watching[s.GetJob()] {
			p.watching[s.GetJob()] = true
			p.watch.Go(func() { p.follow(s.GetId(), s.GetJob()) })
		}
	}
}

// plant adds a bar for each step, as a tree.
func (p *pipelineProgress) plant(j *controlpb.Job) {
	tree := treeOf(j.GetSteps())
	width := 0
	for _, b := range tree {
		width = max(width, utf8.RuneCountInString(b.prefix+b.step.GetId()))
	}
	for _, b := range tree {
		id := b.step.GetId()
		p.shown[id] = p.bars.AddBar(0,
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-*s ", width, b.prefix+id))),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
				return " " + p.notes.get(id)
			})))
		p.notes.set(id, state(b.step))
	}
}

// changed shows a step whose phase is another one.
func (p *pipelineProgress) changed(was, s *controlpb.Step) {
	text := state(s)
	if s.GetVersion() != "" {
		text += "  " + s.GetVersion()
	}
	if s.GetFound() != "" {
		text += "  " + s.GetFound()
	}
	if e := errorOf(s.GetError()); e != nil {
		text += "  " + e.Message
	}
	p.notes.set(s.GetId(), strings.ReplaceAll(text, "\n", "; "))
	if p.bars == nil {
		if was != nil || s.GetPhase() != string(trainer.Queued) {
			fmt.Fprintf(p.out, "step %s %s\n", s.GetId(), text)
		}
		return
	}
	if s.GetPhase() == string(trainer.Succeeded) {
		p.shown[s.GetId()].SetTotal(1, false)
		p.shown[s.GetId()].SetCurrent(1)
	}
}

// follow shows a step's job until it ends.
func (p *pipelineProgress) follow(step, job string) {
	lines := &progress{out: p.out, job: job, tenth: -1}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watching, job)
	}()
	for p.life.Err() == nil {
		stream, err := p.client.control.WatchJob(p.life, &controlpb.JobRequest{Job: job})
		for err == nil {
			var j *controlpb.Job
			if j, err = stream.Recv(); err == nil {
				p.came(step, j, lines)
			}
		}
		if status.Code(err) != codes.NotFound {
			return
		}
		// It is about to be submitted.
		select {
		case <-p.life.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// came shows how far a step's job has come.
func (p *pipelineProgress) came(step string, j *controlpb.Job, lines *progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil {
		lines.lines(j)
		return
	}
	at := j.GetProgress()
	if p.steps[step].GetPhase() != string(trainer.Running) || at.GetSteps() == 0 {
		return
	}
	p.notes.set(step, fmt.Sprintf("%s %d/%d  %s", j.GetPhase(), at.GetStep(), at.GetSteps(), summary(j)))
	p.shown[step].SetTotal(at.GetSteps(), false)
	p.shown[step].SetCurrent(at.GetStep())
}

// finish leaves the last state on the screen.
func (p *pipelineProgress) finish() {
	p.end()
	p.watch.Wait()
	for _, bar := range p.shown {
		if bar.Current() > 0 {
			bar.SetTotal(-1, true)
		} else {
			bar.Abort(false)
		}
	}
	if p.bars != nil {
		p.bars.Wait()
	}
}
