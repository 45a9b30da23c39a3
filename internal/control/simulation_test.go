package control

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"galley"
	"galley/scheduler"
	"galley/trainer"
)

// A simulation is the control loop without its store, its processes and its
// clock: jobs and effects that are kept, a board that a crash of the server
// wipes, attempts that die with it, and messages that come late.
type simulation struct {
	t        testing.TB
	seed     uint64
	r        *rand.Rand
	now      time.Time
	capacity scheduler.Resources

	// What a disk keeps.
	jobs    map[string]trainer.Job
	order   []string
	effects []pending
	models  map[string]int // publications by job

	// What a crash loses.
	board    *board
	attempts map[string]*simulated
	late     []pending // messages of attempts that are on the way
}

type pending struct {
	job    string
	effect trainer.Effect
	event  trainer.Event
}

type simulated struct {
	number, step, saved int
	stopping            bool
}

const simulatedSteps = 30

func (s *simulation) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d: %s", s.seed, fmt.Sprintf(format, args...))
}

// step is Control.step on the simulated store: job and effects in one write.
func (s *simulation) step(id string, e trainer.Event) {
	before := s.jobs[id]
	after, effects, err := trainer.Step(before, e)
	if err != nil {
		if galley.CodeOf(err) != galley.FailedPrecondition {
			s.fail("%s: %v", id, err)
		}
		return
	}
	if len(effects) == 0 && reflect.DeepEqual(before, after) {
		return
	}
	after.Generation++
	s.jobs[id] = after
	for _, effect := range effects {
		s.effects = append(s.effects, pending{job: id, effect: effect})
	}
	s.board.put(after)
}

// open is Control.Open: a new board, filled from what is kept.
func (s *simulation) open() {
	s.board = newBoard(s.capacity, []scheduler.Tenant{{Name: "sport", Quota: scheduler.Resources{scheduler.CPU: 3000}}})
	s.board.settle = 0
	s.attempts, s.late = map[string]*simulated{}, nil
	for _, id := range s.order {
		if j := s.jobs[id]; j.Phase == trainer.Running {
			s.board.restore(j)
			s.step(id, trainer.Crashed{At: s.now, Attempt: j.Attempt(), Cause: trainer.Interrupted, Err: galley.Errorf(galley.Aborted, id, "the server went away")})
		}
	}
	for _, id := range s.order {
		if j := s.jobs[id]; j.Phase == trainer.Queued {
			s.board.restore(j)
		}
	}
}

func (s *simulation) submit() {
	id := fmt.Sprint("job-", len(s.order))
	j := trainer.Job{
		ID: id, Tenant: []string{"sport", "politics"}[s.r.IntN(2)], Phase: trainer.Queued, Created: s.now, Updated: s.now, QueuedAt: s.now,
		Generation: 1, Memory: int64(1+s.r.IntN(6)) << 30,
		Spec: trainer.Spec{Priority: 25 * s.r.IntN(5), Retries: s.r.IntN(4), Resources: trainer.Resources{CPUs: 1 + s.r.IntN(3)}},
	}
	for range s.r.IntN(2) {
		if len(s.order) > 0 {
			j.Spec.Needs = append(j.Spec.Needs, s.order[s.r.IntN(len(s.order))])
		}
	}
	s.jobs[id] = j
	s.order = append(s.order, id)
	s.board.put(j)
}

func (s *simulation) schedule() {
	for _, id := range s.board.unknown() {
		s.board.note(s.jobs[id])
	}
	for _, d := range s.board.decide(s.now) {
		s.step(d.job, d.event)
	}
}

// perform performs the effects; once in a while one is forgotten to be marked
// as done, and is performed again.
func (s *simulation) perform() {
	effects := s.effects
	s.effects = nil
	for _, p := range effects {
		if s.r.IntN(10) == 0 {
			s.effects = append(s.effects, p)
		}
		j := s.jobs[p.job]
		switch e := p.effect.(type) {
		case trainer.StartAttempt:
			if !runs(j, e.Attempt) || s.attempts[p.job] != nil && s.attempts[p.job].number == e.Attempt {
				continue
			}
			if s.attempts[p.job] != nil {
				s.fail("%s: attempt %d starts while %d runs", p.job, e.Attempt, s.attempts[p.job].number)
			}
			from := j.Progress.Checkpoint
			s.attempts[p.job] = &simulated{number: e.Attempt, step: from, saved: from}
			s.tell(p.job, trainer.Reported{At: s.now, Attempt: e.Attempt, Began: true, Progress: trainer.Progress{Step: from, Steps: simulatedSteps}})
		case trainer.StopAttempt:
			if a := s.attempts[p.job]; a != nil && a.number == e.Attempt {
				a.stopping = true
			}
		case trainer.PublishModel:
			if j.Phase == trainer.Running {
				s.models[p.job]++
				s.step(p.job, trainer.Published{At: s.now, Ref: p.job + "@1"})
			}
		}
	}
	var used scheduler.Resources
	for id := range s.attempts {
		pod := s.board.pod(s.jobs[id])
		for k := range used {
			used[k] += pod[k]
		}
	}
	for k := range used {
		if used[k] > s.capacity[k] {
			s.fail("%v of %v is in use", used, s.capacity)
		}
	}
}

// tell sends an event of an attempt, which may be heard twice.
func (s *simulation) tell(id string, e trainer.Event) {
	s.step(id, e)
	if s.r.IntN(5) == 0 {
		s.late = append(s.late, pending{job: id, event: e})
	}
}

// train lets an attempt come further, or end.
func (s *simulation) train(id string, faults bool) {
	a := s.attempts[id]
	if s.r.IntN(3) == 0 {
		a.saved = a.step
		s.tell(id, trainer.Reported{At: s.now, Attempt: a.number, Progress: trainer.Progress{Step: a.step, Steps: simulatedSteps}, Checkpoint: a.saved})
	}
	why := galley.Errorf(galley.Aborted, "attempt", "is gone")
	switch {
	case a.stopping:
		delete(s.attempts, id)
		s.tell(id, trainer.Reported{At: s.now, Attempt: a.number, Checkpoint: a.step})
		s.tell(id, trainer.Crashed{At: s.now, Attempt: a.number, Cause: trainer.Killed, Err: why})
	case faults && s.r.IntN(15) == 0:
		delete(s.attempts, id)
		s.tell(id, trainer.Crashed{At: s.now, Attempt: a.number, Cause: trainer.Causes[2+s.r.IntN(5)], Err: why})
	case faults && s.r.IntN(60) == 0:
		delete(s.attempts, id)
		s.tell(id, trainer.Broke{At: s.now, Attempt: a.number, Err: why})
	case a.step >= simulatedSteps:
		delete(s.attempts, id)
		s.tell(id, trainer.Finished{At: s.now, Attempt: a.number})
	default:
		a.step = min(simulatedSteps, a.step+1+s.r.IntN(10))
	}
}

func (s *simulation) tick(faults bool) {
	s.now = s.now.Add(time.Duration(s.r.IntN(20)) * time.Second)
	if faults {
		switch n := s.r.IntN(100); {
		case n < 15:
			s.submit()
		case n < 18 && len(s.order) > 0:
			s.step(s.order[s.r.IntN(len(s.order))], trainer.CancelAsked{At: s.now})
		case n < 22 && len(s.order) > 0:
			s.step(s.order[s.r.IntN(len(s.order))], trainer.ResumeAsked{At: s.now})
		case n < 25:
			s.open() // SIGKILL
		case n < 27:
			s.now = s.now.Add(time.Duration(s.r.IntN(7200)-3600) * time.Second)
		}
	}
	s.board.stir()
	s.schedule()
	s.perform()
	for _, id := range slices.Clone(s.order) {
		if s.attempts[id] != nil && s.r.IntN(2) == 0 {
			s.train(id, faults)
		}
	}
	if len(s.late) > 0 && s.r.IntN(2) == 0 {
		s.step(s.late[0].job, s.late[0].event)
		s.late = s.late[1:]
	}
}

// Whatever happens, every job comes to its end, none twice, and no more runs
// than there is room for.
func TestSimulation(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 30
	}
	ended := map[trainer.Phase]int{}
	for seed := range seeds {
		s := &simulation{
			t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 5)), now: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
			capacity: scheduler.Resources{scheduler.CPU: 4000, scheduler.Memory: 8 << 30},
			jobs:     map[string]trainer.Job{}, models: map[string]int{},
		}
		s.open()
		for range 200 {
			s.tick(true)
		}
		for range 4000 {
			if !slices.ContainsFunc(s.order, func(id string) bool { return !s.jobs[id].Phase.Final() }) {
				break
			}
			s.tick(false)
		}
		for _, id := range s.order {
			j := s.jobs[id]
			ended[j.Phase]++
			finished := 0
			for _, a := range j.Attempts {
				if a.Outcome == "finished" {
					finished++
				}
			}
			switch {
			case !j.Phase.Final():
				_, p := s.board.trial(s.now)
				i := slices.IndexFunc(p.Waiting, func(w scheduler.Waiting) bool { return w.Job == id })
				if i < 0 {
					s.fail("%s is %s for ever, and starts", id, j.Phase)
				}
				s.fail("%s is %s for ever: %+v", id, j.Phase, p.Waiting[i])
			case j.Phase == trainer.Succeeded && (finished != 1 || s.models[id] < 1):
				s.fail("%s succeeded with %d finished attempts, published %d times", id, finished, s.models[id])
			case j.Phase != trainer.Succeeded && s.models[id] > 0:
				s.fail("%s is %s, and has a model", id, j.Phase)
			}
			for _, need := range j.Spec.Needs {
				if j.Phase == trainer.Succeeded && s.jobs[need].Phase != trainer.Succeeded {
					s.fail("%s succeeded, and %s, which it needs, is %s", id, need, s.jobs[need].Phase)
				}
			}
		}
		if len(s.board.tickets) > 0 || len(s.board.needed) > len(s.order) {
			s.fail("the board keeps %d jobs that have ended", len(s.board.tickets))
		}
	}
	var said []string
	for phase, n := range ended {
		said = append(said, fmt.Sprint(n, " ", phase))
	}
	slices.Sort(said)
	t.Logf("%d seeds: %s", seeds, strings.Join(said, ", "))
}
