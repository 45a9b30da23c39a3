package serving

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"galley"
)

// A crash is a panic of a run, for the goroutine of the request.
type crash struct {
	value any
	stack []byte
}

func (c *crash) String() string { return fmt.Sprintf("%v\n%s", c.value, c.stack) }

// A batch is rows that run together.
type batch[In, Out any] struct {
	rows   []*row[In, Out]
	size   int
	number uint64
	long   bool // the run, probably
}

// execute runs a batch and gives its rows their answers. If a batch of several
// calls fails, each row runs alone: one may be at fault, and the others are
// not to suffer for it.
func (b *batcher[In, Out]) execute(rows *batch[In, Out]) {
	ctx, stop := rows.context()
	err := b.attempt(ctx, rows)
	stop()
	if err == nil {
		return
	}
	if rows.calls() == 1 {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.fail(rows.rows[0].call, err)
		return
	}
	for _, r := range rows.rows {
		err := r.call.ctx.Err()
		if err != nil {
			err = interrupted(b.name, err)
		} else {
			err = b.attempt(r.call.ctx, &batch[In, Out]{rows: []*row[In, Out]{r}, size: r.size, number: rows.number, long: rows.long})
		}
		if err != nil {
			b.mu.Lock()
			b.fail(r.call, err)
			b.mu.Unlock()
		}
	}
}

// attempt runs rows once and gives them their answers.
func (b *batcher[In, Out]) attempt(ctx context.Context, rows *batch[In, Out]) (err error) {
	defer func() {
		if value := recover(); value != nil {
			// Not to end the process from a goroutine of no request, nor to
			// keep the executor.
			if rows.calls() == 1 {
				rows.rows[0].call.crash = &crash{value, debug.Stack()}
			}
			err = galley.Errorf(galley.Internal, b.name, "the run panicked")
		}
	}()
	ins := make([]In, len(rows.rows))
	for i, r := range rows.rows {
		ins[i] = r.in
	}
	outs, t, err := b.turn(ctx, ins, rows.size, rows.long)
	if err != nil {
		return err
	}
	if err := b.complete(ins, outs); err != nil {
		return err
	}
	rows.rows[0].call.record.ran(len(ins), t)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cost.observe(rows.size*len(ins), t.input+t.infer+t.output)
	for i, r := range rows.rows {
		c := r.call
		c.out[r.at] = outs[i]
		if c.last != rows.number { // once a run, however many rows it has there
			c.last = rows.number
			c.times.input += t.input
			c.times.infer += t.infer
			c.times.output += t.output
		}
	}
	return nil
}

// calls counts the batch's calls, up to two.
func (b *batch[In, Out]) calls() int {
	for _, r := range b.rows[1:] {
		if r.call != b.rows[0].call {
			return 2
		}
	}
	return 1
}

// context ends when the contexts of all calls have ended. stop frees it.
func (b *batch[In, Out]) context() (ctx context.Context, stop func()) {
	if b.calls() == 1 {
		return b.rows[0].call.ctx, func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var waiting atomic.Int64
	var stops []func() bool
	seen := map[*call[In, Out]]bool{}
	waiting.Store(1) // until all are counted
	for _, r := range b.rows {
		if seen[r.call] {
			continue
		}
		seen[r.call] = true
		waiting.Add(1)
		stops = append(stops, context.AfterFunc(r.call.ctx, func() {
			if waiting.Add(-1) == 0 {
				cancel()
			}
		}))
	}
	if waiting.Add(-1) == 0 {
		cancel()
	}
	return ctx, func() {
		for _, s := range stops {
			s()
		}
		cancel()
	}
}
