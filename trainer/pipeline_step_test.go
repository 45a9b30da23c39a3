package trainer

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

func storyJob(t *testing.T) Job {
	t.Helper()
	s, problems := ParseFile([]byte(story), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	return Job{ID: "story-1", Spec: s, Phase: Running, Steps: s.Begin(), Generation: 1}
}

// A pipeline that runs through, and one of which a step fails, is resumed, and
// then runs through.
func TestPipelineStep(t *testing.T) {
	j, at := storyJob(t), time.Unix(1, 0)
	do := func(e Event) {
		t.Helper()
		var err error
		if j, _, err = Step(j, e); err != nil {
			t.Fatal(err)
		}
	}
	run := func(id, version string) {
		t.Helper()
		if duty := j.Duty(j.Steps[j.step(id)], nil); duty != Start {
			t.Fatalf("%s: duty %d", id, duty)
		}
		do(StepStarted{at, id})
		do(StepEnded{At: at, Step: id, Phase: Succeeded, Version: version})
	}
	run("pretrain", "base@1")
	do(StepStarted{at, "distil"}) // too early
	if j.Steps[2].Phase != Queued {
		t.Errorf("%+v", j.Steps[2])
	}
	do(StepStarted{at, "tune"})
	do(StepPinned{at, "tune", "topic-1", "sha256:1"})
	do(StepPinned{at, "tune", "topic-2", "sha256:2"}) // late
	nan := galley.Errorf(galley.FailedPrecondition, "recipe", "the loss is NaN").WithRemedy("lower it")
	do(StepEnded{At: at, Step: "tune", Phase: Failed, Job: "topic-1", Err: nan})
	if j.Phase != Failed || j.Error.Error() != "steps.tune: recipe: the loss is NaN — lower it" || !slices.Equal(j.Versions, []string{"base@1"}) {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if _, _, err := Step(j, CancelAsked{at}); err == nil {
		t.Error("what has failed was cancelled")
	}
	do(ResumeAsked{at})
	if s := j.Steps[1]; s.Phase != Queued || !s.Resuming || s.Job != "topic-1" || j.Error != nil || j.Steps[0].Phase != Succeeded {
		t.Fatalf("%+v", j.Steps)
	}
	do(StepStarted{at, "tune"})
	for _, c := range []struct {
		child *Job
		want  Duty
	}{
		{&Job{Phase: Failed}, Reopen}, {&Job{Phase: Cancelled}, Reopen}, {&Job{Phase: Queued}, Reopened},
		{&Job{Phase: Running}, Reopened}, {&Job{Phase: Succeeded}, Conclude}, {nil, Submit},
	} {
		if got := j.Duty(j.Steps[1], c.child); got != c.want {
			t.Errorf("%+v: duty %d, want %d", c.child, got, c.want)
		}
	}
	do(StepResumed{at, "tune"})
	do(StepEnded{At: at, Step: "tune", Phase: Succeeded, Job: "topic-1", Version: "topic@1"})
	run("distil", "small@1")
	run("shrink", "int8@1")
	run("measure", "int8@1")
	run("release", "int8@1")
	if j.Phase != Succeeded || !slices.Equal(j.Versions, []string{"base@1", "topic@1", "small@1", "int8@1"}) || j.Progress.Step != 6 {
		t.Errorf("%+v", j)
	}
	for _, e := range []Event{CancelAsked{at}, ResumeAsked{at}, Placed{at}} {
		if _, _, err := Step(j, e); err == nil {
			t.Errorf("%T was taken", e)
		}
	}
}

// What a job reads counts, and not what it is called.
func TestInputsDigest(t *testing.T) {
	job := func(kind, start string) Job {
		j := Job{
			Spec: Spec{Kind: kind, Name: "topic", Data: Data{Dataset: "headlines", Unlabelled: "archive"}, Distill: Distill{Teachers: []string{"large:prod"}}},
			Data: "headlines@1", DataDigest: "sha256:d", Unlabelled: "archive@4", Parent: "sha256:p", ParentRef: "base@2",
			Teachers: []Teacher{{Ref: "large@7", Digest: "sha256:t"}},
		}
		if kind == KindDistill {
			j.Spec.Student.From = start
		} else {
			j.Spec.From = start
		}
		return j
	}
	for _, kind := range []string{KindTrain, KindDistill, KindQuantize} {
		want := job(kind, "base").InputsDigest()
		for name, change := range map[string]func(*Job){
			"parent":     func(j *Job) { *j = job(kind, "base@2") },
			"dataset":    func(j *Job) { j.Spec.Data.Dataset = "headlines@1" },
			"unlabelled": func(j *Job) { j.Spec.Data.Unlabelled = "archive@4" },
			"teachers":   func(j *Job) { j.Spec.Teachers = []string{"large@7"} },
			"schedule":   func(j *Job) { j.Spec.Priority, j.Spec.Needs, j.Spec.Retries = 3, []string{"a-1"}, 7 },
			"the rest":   func(j *Job) { j.ID, j.Owner, j.Memory, j.Phase = "topic-1", "ann", 1<<30, Succeeded },
		} {
			j := job(kind, "base")
			if change(&j); j.InputsDigest() != want {
				t.Errorf("%s: another %s makes it another", kind, name)
			}
		}
		for name, change := range map[string]func(*Job){
			"parent":     func(j *Job) { j.Parent = "sha256:q" },
			"data":       func(j *Job) { j.DataDigest = "sha256:e" },
			"unlabelled": func(j *Job) { j.Unlabelled = "archive@5" },
			"teacher":    func(j *Job) { j.Teachers = []Teacher{{Ref: "large@7", Digest: "sha256:u"}} },
			"model":      func(j *Job) { j.Spec.Name = "other" },
			"recipe":     func(j *Job) { j.Spec.Recipe.Epochs = 9 },
			"share":      func(j *Job) { j.Spec.Data.Fraction = 0.5 },
		} {
			j := job(kind, "base")
			if change(&j); j.InputsDigest() == want {
				t.Errorf("%s: another %s changes nothing", kind, name)
			}
		}
		j := job(kind, "base")
		j.InputsDigest()
		if j.Spec.Teachers[0] != "large:prod" || j.Spec.Data.Dataset != "headlines" {
			t.Errorf("the spec has changed: %+v", j.Spec)
		}
	}
}

// A simulated world of a pipeline: what is stored, and what would be lost if
// whoever drives it went away.
type driven struct {
	t        *rapid.T
	job      Job
	children map[string]*Job
	began    map[string]int // submissions of a job
}

func (d *driven) step(e Event) {
	after, _, err := Step(d.job, e)
	if err != nil && galley.CodeOf(err) != galley.FailedPrecondition {
		d.t.Fatal(err)
	}
	if err == nil {
		d.job = after
	}
}

// act does the duty of a step as control does; crash ends it before what
// follows is stored.
func (d *driven) act(s StepState, crash bool) {
	at := time.Unix(1, 0)
	child := d.children[s.Job]
	store := func(e Event) {
		if !crash {
			d.step(e)
		}
	}
	switch d.job.Duty(s, child) {
	case Start:
		store(StepStarted{at, s.ID})
	case Perform:
		kind := d.job.Spec.Steps[d.job.step(s.ID)].Spec.Kind
		if kind == KindEval || kind == KindPromote {
			store(StepEnded{At: at, Step: s.ID, Phase: rapid.SampledFrom([]Phase{Succeeded, Failed}).Draw(d.t, "measured"), Version: "int8@1"})
		} else {
			store(StepPinned{at, s.ID, "job-" + s.ID, "sha256:"})
		}
	case Submit:
		d.children[s.Job] = &Job{ID: s.Job, Phase: Queued}
		d.began[s.Job]++
	case Reopen:
		child.Phase = Queued
	case Reopened:
		store(StepResumed{at, s.ID})
	case Stop:
		child.Phase = Cancelled
	case Conclude:
		e := StepEnded{At: at, Step: s.ID, Phase: Cancelled}
		if child != nil {
			e.Phase, e.Job, e.Version = child.Phase, child.ID, fmt.Sprintf("%s@1", s.ID)
		}
		store(e)
	}
}

// check holds at any moment.
func (d *driven) check(before Job) {
	j := d.job
	for i, s := range j.Steps {
		if s.Phase != Queued || s.Job != "" {
			for _, id := range j.Spec.Steps[i].Requires() {
				if j.Steps[j.step(id)].Phase != Succeeded {
					d.t.Fatalf("%s is %s while %s is %s", s.ID, s.Phase, id, j.Steps[j.step(id)].Phase)
				}
			}
		}
		if was := before.Steps[i]; was.Phase == Succeeded && !reflect.DeepEqual(was, s) {
			d.t.Fatalf("%s lost its result: %+v", s.ID, s)
		}
		if j.Phase.Final() && s.Phase == Running {
			d.t.Fatalf("%s runs in a pipeline that has %s", s.ID, j.Phase)
		}
	}
	for id, n := range d.began {
		if n > 1 {
			d.t.Fatalf("%s was submitted %d times", id, n)
		}
	}
	if j.Phase.Final() {
		for id, child := range d.children {
			if !child.Phase.Final() {
				d.t.Fatalf("%s is %s, and the pipeline has %s", id, child.Phase, j.Phase)
			}
		}
	}
}

// In any order of events, with crashes at any moment, no step is run twice,
// none before what it requires, no result is lost, and the pipeline ends.
func TestPipelineAnyOrder(t *testing.T) {
	first := storyJob(t)
	rapid.Check(t, func(t *rapid.T) {
		d := &driven{t: t, job: first, children: map[string]*Job{}, began: map[string]int{}}
		d.job.Steps = slices.Clone(first.Steps)
		random := func(name string, n int) int { return rapid.IntRange(0, n).Draw(t, name) }
		for range 60 {
			before := d.job
			before.Steps = slices.Clone(d.job.Steps)
			switch random("what", 9) {
			case 0:
				if random("cancel", 5) == 0 {
					d.step(CancelAsked{time.Unix(2, 0)})
				}
			case 1:
				if d.job.Phase.Final() {
					d.step(ResumeAsked{time.Unix(2, 0)})
				}
			case 2, 3, 4:
				for _, child := range d.children {
					if !child.Phase.Final() {
						child.Phase = rapid.SampledFrom([]Phase{Running, Succeeded, Succeeded, Failed, Cancelled}).Draw(t, "child")
					}
				}
			case 5: // late, or of a step that is not as it expects
				id := d.job.Steps[random("step", len(d.job.Steps)-1)].ID
				if s := d.job.Steps[d.job.step(id)]; s.Phase != Running {
					d.step(StepEnded{At: time.Unix(2, 0), Step: id, Phase: Succeeded, Version: "late@1"})
					d.step(StepPinned{time.Unix(2, 0), id, "late", ""})
				}
			default:
				d.act(d.job.Steps[random("step", len(d.job.Steps)-1)], random("crash", 3) == 0)
			}
			d.check(before)
		}
		// Left alone, it ends.
		for range 200 {
			if d.job.Phase.Final() {
				break
			}
			for _, child := range d.children {
				if !child.Phase.Final() {
					child.Phase = Succeeded
				}
			}
			for i := range d.job.Steps {
				before := d.job
				d.act(d.job.Steps[i], false)
				d.check(before)
			}
		}
		if !d.job.Phase.Final() {
			t.Fatalf("it does not end: %+v", d.job.Steps)
		}
		if succeeded := !slices.ContainsFunc(d.job.Steps, func(s StepState) bool { return s.Phase != Succeeded }); succeeded != (d.job.Phase == Succeeded) {
			t.Fatalf("%s: %+v", d.job.Phase, d.job.Steps)
		}
	})
}
