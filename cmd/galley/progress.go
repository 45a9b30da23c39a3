package main

import (
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	controlpb "galley/api/control/v1"
)

// progress shows how a job comes along: a bar on a terminal, a line now and
// then elsewhere.
type progress struct {
	out   io.Writer
	job   string
	bars  *mpb.Progress
	bar   *mpb.Bar
	note  string // shown behind the bar
	phase string
	tenth int64 // the last tenth of the steps that had a line
}

func newProgress(out io.Writer, job string) *progress {
	p := &progress{out: out, job: job, tenth: -1}
	if terminal(out) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(32))
	}
	return p
}

// update shows the job's newest state.
func (p *progress) update(j *controlpb.Job) {
	at := j.GetProgress()
	if p.bars == nil {
		p.lines(j)
		return
	}
	p.note = summary(j)
	if at.GetSteps() == 0 {
		return
	}
	if p.bar == nil {
		p.bar = p.bars.AddBar(at.GetSteps(),
			mpb.PrependDecorators(decor.Name(p.job+" "), decor.CountersNoUnit("%d/%d ")),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + p.note })))
	}
	p.bar.SetTotal(at.GetSteps(), false)
	p.bar.SetCurrent(at.GetStep())
}

func (p *progress) lines(j *controlpb.Job) {
	at := j.GetProgress()
	if j.GetPhase() != p.phase {
		p.phase = j.GetPhase()
		fmt.Fprintf(p.out, "%s %s\n", p.job, p.phase)
	}
	if at.GetSteps() == 0 {
		return
	}
	if tenth := at.GetStep() * 10 / at.GetSteps(); tenth != p.tenth {
		p.tenth = tenth
		line := fmt.Sprintf("%s step %d of %d  %s", p.job, at.GetStep(), at.GetSteps(), summary(j))
		fmt.Fprintln(p.out, strings.TrimRight(line, " "))
	}
}

func summary(j *controlpb.Job) string {
	at := j.GetProgress()
	parts := []string{}
	if at.GetLoss() > 0 {
		parts = append(parts, fmt.Sprintf("loss %.4f", at.GetLoss()))
	}
	var names []string
	for name := range j.GetMetrics() {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("valid %s %.4f", name, j.GetMetrics()[name]))
	}
	return strings.Join(parts, "  ")
}

// finish leaves the last state on the screen.
func (p *progress) finish() {
	if p.bar != nil {
		p.bar.SetTotal(-1, true)
	}
	if p.bars != nil {
		p.bars.Wait()
	}
}
