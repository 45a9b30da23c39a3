package partner

import (
	"testing"

	"galley/internal/faults"
)

// An agent whose disk takes no more says so, takes no part, and takes part when
// there is room again. What it wrote half-way is not taken for whole.
func TestFullDisk(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	agent := a.spawn(1)
	defer func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	}()
	attempt := 0
	offer := func() {
		attempt++
		c.offer("harbour", c.honest("harbour", 1, attempt))
	}
	c.waitFor("attending", func() bool { return len(c.attending) == 1 })
	// Each writes further: the model's smallest file, its graph, the weights, the
	// update.
	for _, room := range []uint64{1500, 3500, 4000} {
		if err := faults.LimitWrites(agent.Process.Pid, room); err != nil {
			t.Skipf("writes cannot be limited here: %v", err)
		}
		offer()
		c.waitFor("a refusal", func() bool { return len(c.declined) == attempt })
		if why := stateOf(c, func() string { return c.declined[attempt-1].GetWhy() }); why != noMachine {
			t.Errorf("with room for %d bytes: %s", room, why)
		}
		if n := len(a.ledger().Answers); n != 0 {
			t.Errorf("%d answers", n)
		}
	}
	if err := faults.LimitWrites(agent.Process.Pid, faults.Unlimited); err != nil {
		t.Fatal(err)
	}
	offer()
	c.waitFor("an update", func() bool { return len(c.headers) == 1 })
	if c.headers[0].Attempt != attempt || !c.headers[0].Verify(c.keys["harbour"]) {
		t.Errorf("%+v", c.headers[0])
	}
}
