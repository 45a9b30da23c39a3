package federation

import (
	"bytes"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"galley"
)

// TestSimulation runs whole federations over a network that loses, delays,
// doubles and reorders what it carries, with a coordinator and agents that are
// killed at any point, and partners that lie; each must end with the rounds it
// was to have, each made of the right numbers. GALLEY_FEDERATION_SEEDS sets how
// many.
func TestSimulation(t *testing.T) {
	seeds := 100
	if testing.Short() {
		seeds = 20
	}
	if s := os.Getenv("GALLEY_FEDERATION_SEEDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		seeds = n
	}
	var all tally
	for seed := range seeds {
		s := newSimulation(t, uint64(seed))
		s.run()
		s.check()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		all.add(s.tally)
	}
	t.Logf("%d federations: %+v", seeds, all)
	for what, n := range map[string]int{
		"coordinator killed": all.Killed, "agents killed": all.AgentsKilled, "lost": all.Lost, "doubled": all.Doubled, "partitions": all.Partitions,
		"late or stale": all.Late, "resent": all.Resent, "refused": all.Refused, "failed attempts": all.FailedAttempts, "aggregations of fewer": all.Partial,
		"declined": all.Declined, "withdrawn": all.Withdrawn, "spoilt": all.Spoilt,
	} {
		if n == 0 {
			t.Errorf("the simulation had no %s: it shows nothing about them", what)
		}
	}
}

// A tally says what happened, so that a simulation in which nothing does is seen.
type tally struct {
	Rounds, FailedAttempts, Killed, AgentsKilled, Lost, Doubled, Partitions, Late, Resent, Refused, Partial, Declined, Withdrawn, Spoilt int
}

func (a *tally) add(b tally) {
	a.Rounds += b.Rounds
	a.FailedAttempts += b.FailedAttempts
	a.Killed += b.Killed
	a.AgentsKilled += b.AgentsKilled
	a.Lost += b.Lost
	a.Doubled += b.Doubled
	a.Partitions += b.Partitions
	a.Late += b.Late
	a.Resent += b.Resent
	a.Refused += b.Refused
	a.Partial += b.Partial
	a.Declined += b.Declined
	a.Withdrawn += b.Withdrawn
	a.Spoilt += b.Spoilt
}

// calm is when faults end, so that whether a federation ends can be asked.
const calm = 12 * time.Hour

// A simulation is a coordinator, its agents, and a queue of what is to happen.
type simulation struct {
	t      *testing.T
	seed   uint64
	rand   *rand.Rand
	now    time.Time
	queue  schedule
	count  int
	tally  tally
	terms  Terms
	first  galley.Digest
	disk   Federation // as the coordinator stored it last and reads it again
	rounds []Round    // those that have ended, likewise
	shelf  shelf
	agents []*simulatedAgent
	down   time.Time // until when the coordinator is not there
	life   int       // of the coordinator: what belongs to an earlier one is gone
}

// A task is done at its time.
type task struct {
	at    time.Time
	order int
	do    func()
}

type schedule []task

func (s schedule) Len() int { return len(s) }
func (s schedule) Less(i, j int) bool {
	return s[i].at.Before(s[j].at) || s[i].at.Equal(s[j].at) && s[i].order < s[j].order
}
func (s schedule) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)   { *s = append(*s, x.(task)) }
func (s *schedule) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 3)), now: began, shelf: shelf{}, terms: testTerms()}
	s.terms.Rounds = 2 + s.rand.IntN(3)
	s.terms.Attempts = maxAttempts
	s.terms.Within = time.Duration(10+s.rand.IntN(50)) * time.Minute
	s.terms.MaxShare = []float64{0.3, 0.6, 1}[s.rand.IntN(3)]
	s.terms.Seed = seed
	if s.rand.IntN(2) == 0 {
		s.terms.Clip = 0.5
	}
	if s.rand.IntN(3) == 0 {
		s.terms.Weighting = Uniform
	}
	partners := 3 + s.rand.IntN(4)
	if s.rand.IntN(2) == 0 {
		s.terms.Sample = partners - 1
	}
	if s.rand.IntN(3) == 0 {
		s.terms.Enough = 2
	}
	weights, digest := encode(t, testLayout, random(testLayout, seed)...)
	s.shelf[digest], s.first = weights, digest
	f, err := New(s.terms, digest, began)
	if err != nil {
		t.Fatal(err)
	}
	lies := []string{"not finite", "shape", "large", "rows", "bytes", "key", "stale"}
	for i := range partners {
		a := &simulatedAgent{name: fmt.Sprintf("partner-%d", i), rows: 1 + s.rand.Int64N(9000), updates: shelf{}}
		a.offset = time.Duration(s.rand.IntN(121)-60) * time.Minute
		if i >= 2 && s.rand.IntN(3) == 0 {
			a.liar = lies[s.rand.IntN(len(lies))]
		}
		a.Agreement, a.Key = agreementOf(a.name), keyOf(a.name)
		if i >= 2 && s.rand.IntN(5) == 0 {
			a.Agreement.Expires = began.Add(time.Duration(s.rand.IntN(120)) * time.Minute)
		}
		m := memberOf(a.name)
		m.Agreement = a.Agreement
		if f, _, err = Advance(f, Joined{m}); err != nil {
			t.Fatal(err)
		}
		s.agents = append(s.agents, a)
	}
	if s.rand.IntN(3) == 0 {
		s.after(s.seconds(3*3600), func() { s.revoke(s.agents[2]) })
	}
	s.disk = stored(t, f)
	return s
}

func (s *simulation) chance(p float64) bool { return s.rand.Float64() < p }

// faulty is chance while faults are.
func (s *simulation) faulty(p float64) bool { return s.now.Sub(began) < calm && s.chance(p) }

func (s *simulation) after(d time.Duration, do func()) {
	s.count++
	heap.Push(&s.queue, task{s.now.Add(d), s.count, do})
}

func (s *simulation) seconds(most int) time.Duration {
	return time.Duration(1+s.rand.IntN(most)) * time.Second
}

// stored returns what is read again of what is written.
func stored[T any](t testing.TB, v T) (read T) {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &read); err != nil {
		t.Fatal(err)
	}
	return read
}

func (s *simulation) up() bool { return !s.now.Before(s.down) }

// run does what is due until the federation has ended, or far too long.
func (s *simulation) run() {
	s.tick()
	for _, a := range s.agents {
		s.poll(a)
	}
	for len(s.queue) > 0 {
		next := heap.Pop(&s.queue).(task)
		if s.now = next.at; s.now.Sub(began) > 20*calm {
			s.t.Errorf("the federation does not end: %+v", s.disk)
			return
		}
		next.do()
		if s.disk.State != Running {
			return
		}
	}
}

// kill ends the coordinator; it comes back, and goes on from what it stored.
func (s *simulation) kill() {
	s.tally.Killed++
	s.life++
	s.down = s.now.Add(s.seconds(1200))
	s.after(s.down.Sub(s.now), func() { s.perform(s.disk.Resume()) })
}

// apply is one event at the coordinator, which may be killed before it stores
// the change, or after that and before it does what the change asks for.
func (s *simulation) apply(e Event) {
	f, effects, err := Advance(s.disk, e)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.faulty(0.02) {
		s.kill()
		return
	}
	for _, effect := range effects {
		if k, ok := effect.(KeepRound); ok {
			s.rounds = append(s.rounds, stored(s.t, k.Round))
		}
	}
	s.disk = stored(s.t, f)
	if s.faulty(0.02) {
		s.kill()
		return
	}
	s.perform(effects)
	if s.faulty(0.1) {
		s.perform(effects) // twice is once
	}
}

func (s *simulation) perform(effects []Effect) {
	for _, effect := range effects {
		if work, ok := effect.(StartAggregation); ok {
			life := s.life
			s.after(s.seconds(300), func() {
				if life == s.life {
					s.aggregate(work)
				}
			})
			if s.faulty(0.1) {
				s.after(s.seconds(300), func() { s.revoke(s.agents[2]) })
			}
		}
	}
}

func (s *simulation) aggregate(work StartAggregation) {
	s.rand.Shuffle(len(work.Parts), func(i, j int) { work.Parts[i], work.Parts[j] = work.Parts[j], work.Parts[i] })
	var out bytes.Buffer
	digest, err := Aggregate(&out, testLayout, bytes.NewReader(s.shelf[work.Base]), work.Parts, s.shelf.open)
	var spoilt *SpoiltError
	switch {
	case errors.As(err, &spoilt):
		s.apply(Broke{s.now, work.Round, work.Attempt, work.Ordinal, spoilt.Partner, spoilt.Fault})
		return
	case err != nil:
		s.t.Fatal(err)
	}
	s.shelf[digest] = bytes.Clone(out.Bytes())
	if s.faulty(0.05) {
		s.kill()
		return
	}
	s.apply(Aggregated{s.now, work.Round, work.Attempt, work.Ordinal, digest})
}

// revoke takes a partner's access, as soon as the coordinator is there to do it.
func (s *simulation) revoke(a *simulatedAgent) {
	if s.up() {
		s.apply(Revoked{s.now, a.name, "its contract has ended"})
	}
	i, _ := s.disk.find(a.name)
	if s.disk.State == Running && s.disk.Members[i].Revoked == "" {
		s.after(s.seconds(60), func() { s.revoke(a) })
		return
	}
	if a.revoked.IsZero() {
		a.revoked = s.now
	}
}

// tick is the coordinator's loop.
func (s *simulation) tick() {
	if s.up() {
		var present []string
		for _, a := range s.agents {
			if !s.now.Before(a.down) && !s.now.Before(a.cut) {
				present = append(present, a.name)
			}
		}
		f := s.disk
		if due, ok := f.Due(); f.Round == nil && s.chance(0.9) || ok && !s.now.Before(due) {
			s.apply(Ticked{s.now, present})
		}
	}
	s.after(s.seconds(240), s.tick)
}

// receive is the coordinator's end of an upload.
func (s *simulation) receive(h SignedHeader, data []byte) {
	e := Submitted{At: s.now, Header: h}
	finding, err := Inspect(bytes.NewReader(data), testLayout)
	switch {
	case errors.As(err, &e.Fault):
	case err != nil:
		s.t.Fatal(err)
	default:
		e.Finding = finding
		s.shelf[finding.Digest] = data
		if s.faulty(0.03) { // the coordinator's disk forgets a bit
			damaged := bytes.Clone(data)
			damaged[len(data)/2] ^= 4
			s.shelf[finding.Digest] = damaged
		}
	}
	// What is for a round that has ended goes into its record.
	for i, r := range s.rounds {
		if r.Number != h.Round || r.Attempt != h.Attempt {
			continue
		}
		after, effects, err := Step(r, e)
		if err != nil || len(effects) > 0 || after.Aggregate != r.Aggregate || after.Phase != r.Phase {
			s.t.Errorf("an update changed a round that had ended: %v, %v", effects, err)
		}
		s.rounds[i] = stored(s.t, after)
		return
	}
	s.apply(e)
}
