package control

import (
	"context"
	"slices"
	"sync"

	"galley"
)

// presence has the agents that attend: one stream of a partner and federation.
type presence struct {
	mu     sync.Mutex
	places map[place]*attendance
}

type place struct{ federation, partner string }

// An attendance is an agent's stream.
type attendance struct {
	signal chan struct{} // there may be a new offer
	cancel context.CancelCauseFunc
}

// enter lets a stream attend in place of the one before. The context that it
// returns ends with the stream's attendance.
func (p *presence) enter(ctx context.Context, at place) (context.Context, *attendance) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &attendance{make(chan struct{}, 1), cancel}
	p.mu.Lock()
	defer p.mu.Unlock()
	if before := p.places[at]; before != nil {
		before.cancel(galley.Errorf(galley.Aborted, at.partner, "attends %s by another connection now", at.federation).
			WithRemedy("run one agent of a partner for a federation"))
	}
	if p.places == nil {
		p.places = map[place]*attendance{}
	}
	p.places[at] = a
	return ctx, a
}

// leave ends a stream's attendance; last says that no other took its place.
func (p *presence) leave(at place, a *attendance) (last bool) {
	a.cancel(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.places[at] != a {
		return false
	}
	delete(p.places, at)
	return true
}

// expel ends all streams of a partner.
func (p *presence) expel(partner string, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, a := range p.places {
		if at.partner == partner {
			a.cancel(why)
		}
	}
}

// call has the agents of a federation look for an offer.
func (p *presence) call(federation string, partners []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, partner := range partners {
		if a := p.places[place{federation, partner}]; a != nil {
			select {
			case a.signal <- struct{}{}:
			default:
			}
		}
	}
}

// callAll is call for all that attend a federation.
func (p *presence) callAll(federation string) { p.call(federation, p.at(federation)) }

// at are the partners that attend a federation, by name.
func (p *presence) at(federation string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for at := range p.places {
		if at.federation == federation {
			names = append(names, at.partner)
		}
	}
	slices.Sort(names)
	return names
}

func (p *presence) anywhere(partner string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := range p.places {
		if at.partner == partner {
			return true
		}
	}
	return false
}
