package federation

import (
	"bytes"
	"math"
	"slices"
	"time"

	"galley"
)

// A simulatedAgent is a partner. Its ledger and its updates survive it.
type simulatedAgent struct {
	name   string
	rows   int64
	liar   string        // what is wrong with its updates
	offset time.Duration // of its clock
	Agent
	updates  shelf
	life     int
	down     time.Time
	cut      time.Time // until when the network does not reach it
	training bool
	revoked  time.Time
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
	answer, err := a.Consider(o, clock)
	if err != nil {
		if clock.Before(a.Agreement.Expires) && a.liar == "" && !a.past(o) {
			s.t.Errorf("%s: %v", a.name, err)
		}
		s.carry(a, func() {
			if s.up() {
				s.apply(Refused{s.now, a.name, o.Round, o.Attempt, err.Error()})
			}
		})
		return
	}
	if answer != nil {
		s.send(a, *answer)
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
		h, data, ok := s.train(a, o)
		if !ok {
			return // the agreement has ended in the meantime
		}
		a.updates[h.Update] = data
		if s.faulty(0.1) {
			s.tally.AgentsKilled++
			a.life++
			a.down = s.now.Add(s.seconds(1800))
			return
		}
		s.send(a, h)
	})
}

// past reports whether an offer was overtaken on its way: one for a later round or
// attempt was answered already.
func (a *simulatedAgent) past(o Offer) bool {
	return slices.ContainsFunc(a.Ledger.Runs, func(r AnsweredRun) bool {
		return r.is(o.Federation, o.Run) && (o.Round < r.Round || o.Round == r.Round && o.Base == r.Base && o.Attempt < r.Attempt)
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
func (s *simulation) train(a *simulatedAgent, o Offer) (SignedHeader, []byte, bool) {
	base := decode(s.t, testLayout, s.shelf[o.Base])
	after := trained(a, o.Round, base)
	var out bytes.Buffer
	if a.rows%2 == 0 {
		o.Clip = 0 // the coordinator does not rely on its agents
	}
	finding, err := WriteUpdate(&out, testLayout, base, after, a.Agreement.Bound(o))
	if err != nil {
		s.t.Fatal(err)
	}
	data := out.Bytes()
	honest, signed, err := a.Answer(o, finding, a.rows, map[string]float64{"loss": float64(o.Round)}, s.now.Add(a.offset))
	if err != nil {
		if s.now.Add(a.offset).Before(a.Agreement.Expires) {
			s.t.Error(err)
		}
		return SignedHeader{}, nil, false
	}
	if a.liar == "" {
		a.Agent = honest // stored, with the update
		return signed, data, true
	}
	h, key := signed.Header, a.Key
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
		h.Rows = a.Agreement.Leaves.Rows.Most + 1
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
	lie := Sign(h, key)
	a.Ledger = a.Ledger.Add(lie)
	return lie, data, true
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
