package federation

import (
	"bytes"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
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

// A simulatedAgent is a partner. Its ledger and its updates survive it.
type simulatedAgent struct {
	name      string
	rows      int64
	liar      string        // what is wrong with its updates
	offset    time.Duration // of its clock
	ledger    Ledger
	updates   shelf
	life      int
	down      time.Time
	cut       time.Time // until when the network does not reach it
	training  bool
	agreement Agreement
	revoked   time.Time
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
		a.agreement = agreementOf(a.name)
		if i >= 2 && s.rand.IntN(5) == 0 {
			a.agreement.Expires = began.Add(time.Duration(s.rand.IntN(120)) * time.Minute)
		}
		m := memberOf(a.name)
		m.Agreement = a.agreement
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
	s.apply(Revoked{s.now, a.name, "its contract has ended"})
	i, _ := s.disk.find(a.name)
	if s.disk.State == Running && s.disk.Members[i].Revoked == "" {
		s.after(s.seconds(60), func() { s.revoke(a) })
		return
	}
	a.revoked = s.now
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

// carry brings something over a network that is not to be relied on.
func (s *simulation) carry(a *simulatedAgent, do func()) {
	times := 1
	if s.faulty(0.1) {
		times = 2
		s.tally.Doubled++
	}
	for range times {
		if s.faulty(0.1) || s.now.Before(a.cut) {
			s.tally.Lost++
			continue
		}
		most := 20
		if s.faulty(0.1) {
			most = 7200
		}
		s.after(s.seconds(most), do)
	}
}

// poll is an agent's loop: it asks for an offer, and answers it.
func (s *simulation) poll(a *simulatedAgent) {
	if s.faulty(0.01) {
		s.tally.AgentsKilled++
		a.life++
		a.training = false
		a.down = s.now.Add(s.seconds(3600))
	}
	if s.faulty(0.01) {
		s.tally.Partitions++
		a.cut = s.now.Add(s.seconds(3 * 3600))
	}
	if !s.now.Before(a.down) && !a.training {
		s.carry(a, func() {
			if !s.up() {
				return
			}
			f := s.disk
			if f.Round == nil {
				return
			}
			if o, ok := f.Round.Offer(a.name, s.now); ok {
				life := a.life
				s.carry(a, func() {
					if life == a.life {
						s.answer(a, o)
					}
				})
			}
		})
	}
	s.after(s.seconds(300), func() { s.poll(a) })
}

func (s *simulation) answer(a *simulatedAgent, o Offer) {
	clock := s.now.Add(a.offset)
	if err := a.agreement.Permits(o, a.ledger.Answered(o), clock); err != nil {
		if clock.Before(a.agreement.Expires) {
			s.t.Errorf("%s: %v", a.name, err)
		}
		s.carry(a, func() {
			if s.up() {
				s.apply(Refused{s.now, a.name, o.Round, o.Attempt, err.Error()})
			}
		})
		return
	}
	h, ok, err := a.ledger.Find(o)
	if err != nil {
		if a.liar == "" {
			s.t.Error(err)
		}
		return
	}
	if ok {
		s.send(a, h)
		return
	}
	if a.training {
		return
	}
	a.training = true
	life := a.life
	s.after(s.seconds(900), func() {
		if life != a.life {
			return // killed while it trained
		}
		a.training = false
		h, data := s.train(a, o)
		a.updates[h.Update] = data
		a.ledger = a.ledger.Add(h) // stored, with the update
		if s.faulty(0.1) {
			s.tally.AgentsKilled++
			a.life++
			a.down = s.now.Add(s.seconds(1800))
			return
		}
		s.send(a, h)
	})
}

// trained is what training makes of base at a partner: any function will do, if
// it can be computed again.
func trained(a *simulatedAgent, round int, base [][]float32) [][]float32 {
	after := make([][]float32, len(base))
	noise := random(testLayout, uint64(round)*1000+uint64(a.rows))
	for i := range base {
		after[i] = slices.Clone(base[i])
		for j := range after[i] {
			after[i][j] += 0.1*noise[i][j] - 0.01*base[i][j]
		}
	}
	return after
}

// train makes an agent's update; a liar's is not what it should be.
func (s *simulation) train(a *simulatedAgent, o Offer) (SignedHeader, []byte) {
	base := decode(s.t, testLayout, s.shelf[o.Base])
	after := trained(a, o.Round, base)
	var out bytes.Buffer
	finding, err := WriteUpdate(&out, testLayout, base, after, a.agreement.Bound(o))
	if err != nil {
		s.t.Fatal(err)
	}
	data := out.Bytes()
	h := Header{
		Protocol: o.Protocol, Federation: o.Federation, Round: o.Round, Attempt: o.Attempt, Partner: a.name, Agreement: o.Agreement,
		Base: o.Base, Update: finding.Digest, Rows: a.agreement.Told(a.rows), Metrics: map[string]float64{"loss": float64(o.Round)},
	}
	key := keyOf(a.name)
	switch a.liar {
	case "not finite":
		after[1][2] = float32(math.NaN())
		data, h.Update = encode(s.t, testLayout, after...)
	case "shape":
		l := slices.Clone(testLayout)
		l[1].Dims = []int64{3, 4}
		data, h.Update = encode(s.t, l, after...)
	case "large":
		data = append(data, make([]byte, 1000)...)
	case "rows":
		h.Rows = a.agreement.Leaves.Rows.Most + 1
	case "bytes":
		data = bytes.Clone(data)
		data[len(data)-40] ^= 1
	case "key":
		key = keyOf("someone else")
	case "stale":
		h.Base = s.first
		if h.Round = o.Round - 1; o.Round == 1 {
			h.Round, h.Base = 1, galley.DigestBytes(nil)
		}
	}
	return Sign(h, key), data
}

func (s *simulation) send(a *simulatedAgent, h SignedHeader) {
	data := a.updates[h.Update]
	life := a.life
	// An agent that hears nothing sends again.
	if s.faulty(0.2) {
		s.after(s.seconds(600), func() {
			if life == a.life {
				s.send(a, h)
			}
		})
	}
	s.carry(a, func() {
		if s.up() {
			s.receive(h, data)
		}
	})
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

// check recomputes each round from what honest training gives, by another way.
func (s *simulation) check() {
	f := s.disk
	if f.State != Succeeded || f.Closed != s.terms.Rounds {
		s.t.Errorf("%s after %d of %d rounds: %s", f.State, f.Closed, s.terms.Rounds, f.Failure)
		return
	}
	base, number, attempt := s.first, 1, 1
	for _, r := range s.rounds {
		if r.Number != number || r.Attempt != attempt || r.Base != base {
			s.t.Errorf("round %d, attempt %d, from %s comes where %d, %d, %s was due", r.Number, r.Attempt, r.Base.Short(), number, attempt, base.Short())
			return
		}
		s.note(r)
		if r.Phase == Failed {
			s.tally.FailedAttempts++
			attempt++
			continue
		}
		s.tally.Rounds++
		s.recompute(r)
		base, number, attempt = r.Aggregate, number+1, 1
	}
	if number != s.terms.Rounds+1 || f.Base != base {
		s.t.Errorf("%d rounds are kept, and the model is %s, not %s", number-1, f.Base.Short(), base.Short())
	}
}

// note counts what a record says, and holds that no liar had a part.
func (s *simulation) note(r Round) {
	for _, e := range r.Cohort {
		switch e.Standing {
		case Declined:
			s.tally.Declined++
		case Withdrawn:
			s.tally.Withdrawn++
		case Spoilt:
			s.tally.Spoilt++
		}
		s.tally.Resent += e.Resent
		for _, refusal := range e.Refusals {
			if refusal.Reason == Late || refusal.Reason == Stale {
				s.tally.Late++
			} else {
				s.tally.Refused++
			}
		}
		i := slices.IndexFunc(s.agents, func(a *simulatedAgent) bool { return a.name == e.Partner })
		if liar := s.agents[i].liar; liar != "" && e.Standing == Accepted {
			s.t.Errorf("an update whose %s is wrong was accepted", liar)
		}
		if at := s.agents[i].revoked; !at.IsZero() && r.Phase == Closed && r.Ended.After(at) && e.Standing == Accepted {
			s.t.Errorf("round %d, closed at %s, has an update of a partner revoked at %s", r.Number, r.Ended, at)
		}
	}
}

// recompute holds that the aggregate is what its parts make, in plain float64.
func (s *simulation) recompute(r Round) {
	base := decode(s.t, testLayout, s.shelf[r.Base])
	got := decode(s.t, testLayout, s.shelf[r.Aggregate])
	var parts []*simulatedAgent
	for _, a := range s.agents {
		if e, ok := r.Entry(a.name); ok && e.Standing == Accepted {
			parts = append(parts, a)
		}
	}
	if len(parts) < s.terms.MinCohort {
		s.t.Errorf("round %d was made of %d updates", r.Number, len(parts))
	}
	if len(parts) < len(r.Cohort) {
		s.tally.Partial++
	}
	weights := referenceShares(parts, s.terms)
	for i := range base {
		for j := range base[i] {
			want := float64(base[i][j])
			for k, a := range parts {
				after := trained(a, r.Number, base)
				want += weights[k] * (float64(after[i][j]) - float64(base[i][j])) * referenceClip(base, after, s.terms.Clip)
			}
			if math.Abs(want-float64(got[i][j])) > 1e-5 {
				s.t.Errorf("round %d: %s[%d] is %g, not %g", r.Number, testLayout[i].Name, j, got[i][j], want)
				return
			}
		}
	}
	if loss := r.Metrics["loss"]; math.Abs(loss-float64(r.Number)) > 1e-9 {
		s.t.Errorf("round %d tells a loss of %g", r.Number, loss)
	}
}

// referenceShares finds the cap by halving.
func referenceShares(parts []*simulatedAgent, t Terms) []float64 {
	out := make([]float64, len(parts))
	high := 0.0
	for _, a := range parts {
		high = max(high, float64(a.rows))
	}
	capped := func(limit float64) (largest float64) {
		sum := 0.0
		for _, a := range parts {
			sum += min(limit, float64(a.rows))
		}
		for i, a := range parts {
			out[i] = min(limit, float64(a.rows)) / sum
			largest = max(largest, out[i])
		}
		return largest
	}
	if t.Weighting == Uniform {
		capped(1)
		return out
	}
	low := 0.5
	if capped(high) <= t.MaxShare {
		return out
	}
	for range 200 {
		if middle := (low + high) / 2; capped(middle) > t.MaxShare {
			high = middle
		} else {
			low = middle
		}
	}
	capped(low)
	return out
}

func referenceClip(before, after [][]float32, clip float64) float64 {
	norm := 0.0
	for i := range before {
		for j := range before[i] {
			norm = math.Hypot(norm, float64(after[i][j])-float64(before[i][j]))
		}
	}
	if clip > 0 && norm > clip {
		return clip / norm
	}
	return 1
}
