package dataset

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"galley"
)

// LoaderOptions say how rows become batches of T.
type LoaderOptions[T any] struct {
	// Encode turns a row into an item and says its length, by which rows are
	// bucketed. It is called by one goroutine at a time.
	Encode    func(Row) (item T, length int, err error)
	BatchSize int
	// Shuffle orders the rows by Seed and epoch; else they come as they lie.
	Shuffle bool
	Seed    uint64
	// BucketWindow is the number of batches whose rows are sorted by length
	// together, so that a batch has rows of like length; with Shuffle the
	// batches of a window then come in an order of their own. 0 and 1 leave
	// rows in order.
	BucketWindow int
	// Prefetch is how many batches are encoded ahead, in the background; 0
	// encodes them when asked.
	Prefetch int
	// DropLast leaves out the rows that do not fill a batch.
	DropLast bool
}

// A Batch is some encoded rows.
type Batch[T any] struct {
	Epoch     int
	Index     int   // in the epoch
	Rows      []int // the rows' numbers
	Items     []T
	Lengths   []int
	MaxLength int
}

// A Loader streams the batches of epochs. Which rows a batch has depends on
// the rows, the options and the epoch alone, so that a pass begun at batch k
// goes on exactly as a full one does from there.
type Loader[T any] struct {
	rows Rows
	opts LoaderOptions[T]
	used int // rows of an epoch
}

// maxWindow bounds the rows that are held while they are sorted by length.
const maxWindow = 1 << 20

// NewLoader makes a loader over rows.
func NewLoader[T any](rows Rows, opts LoaderOptions[T]) (*Loader[T], error) {
	wrong := func(subject, format string, args ...any) (*Loader[T], error) {
		return nil, galley.Errorf(galley.InvalidArgument, subject, format, args...)
	}
	opts.BucketWindow = max(opts.BucketWindow, 1)
	switch {
	case opts.Encode == nil:
		return wrong("encode", "the loader has no encoder")
	case opts.BatchSize < 1 || opts.BatchSize > maxWindow:
		return wrong("batch_size", "%d is not between 1 and %d", opts.BatchSize, maxWindow)
	case opts.BucketWindow > maxWindow/opts.BatchSize:
		return wrong("bucket_window", "%d batches of %d rows are more than %d rows", opts.BucketWindow, opts.BatchSize, maxWindow)
	case opts.Prefetch < 0 || opts.Prefetch > 1<<16:
		return wrong("prefetch", "%d is not between 0 and %d", opts.Prefetch, 1<<16)
	}
	l := &Loader[T]{rows: rows, opts: opts, used: rows.Len()}
	if opts.DropLast {
		l.used -= l.used % opts.BatchSize
	}
	return l, nil
}

// BatchesPerEpoch is the number of batches of a full pass.
func (l *Loader[T]) BatchesPerEpoch() int {
	return (l.used + l.opts.BatchSize - 1) / l.opts.BatchSize
}

// Batches yields the batches of an epoch from number first on. An error ends
// the sequence. Ranging again begins again. The background goroutine, if any,
// has ended when the range has.
func (l *Loader[T]) Batches(ctx context.Context, epoch, first int) iter.Seq2[Batch[T], error] {
	direct := func(ctx context.Context, yield func(Batch[T], error) bool) {
		if epoch < 0 || first < 0 {
			yield(Batch[T]{}, galley.Errorf(galley.OutOfRange, "batch", "epoch %d, batch %d", epoch, first))
			return
		}
		l.pass(ctx, epoch, first, yield)
	}
	if l.opts.Prefetch == 0 {
		return func(yield func(Batch[T], error) bool) { direct(ctx, yield) }
	}
	return func(yield func(Batch[T], error) bool) { ahead(ctx, l.opts.Prefetch, direct, yield) }
}

// ahead runs produce in a goroutine that keeps up to n results in store, and
// waits for it.
func ahead[B any](ctx context.Context, n int, produce func(context.Context, func(B, error) bool), yield func(B, error) bool) {
	type result struct {
		value B
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result, n)
	go func() {
		defer close(results)
		produce(ctx, func(v B, err error) bool {
			select {
			case results <- result{v, err}:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	defer func() {
		cancel()
		for range results { // ends when the goroutine does
		}
	}()
	for {
		select {
		case r, open := <-results:
			if !open {
				// The producer also ends when ctx does; that is no end of the data.
				if err := ctx.Err(); err != nil {
					var none B
					yield(none, err)
				}
				return
			}
			if !yield(r.value, r.err) || r.err != nil {
				return
			}
		case <-ctx.Done():
			var none B
			yield(none, ctx.Err())
			return
		}
	}
}

// An encoded is a row of a window.
type encoded[T any] struct {
	row, length int
	item        T
}

// pass yields the batches of an epoch from first on, window by window.
func (l *Loader[T]) pass(ctx context.Context, epoch, first int, yield func(Batch[T], error) bool) {
	// Of all rows: with DropLast, which ones are left out changes by epoch.
	order := NewPermutation(l.opts.Seed, uint64(epoch), l.rows.Len())
	size, window := l.opts.BatchSize, l.opts.BucketWindow
	var held []encoded[T]
	for w := first / window; w*window < l.BatchesPerEpoch(); w++ {
		from, to := w*window*size, min((w+1)*window*size, l.used)
		held = held[:0]
		for i := from; i < to; i++ {
			if err := ctx.Err(); err != nil {
				yield(Batch[T]{}, err)
				return
			}
			e, err := l.encode(l.turn(&order, i))
			if err != nil {
				yield(Batch[T]{}, err)
				return
			}
			held = append(held, e)
		}
		if window > 1 {
			slices.SortStableFunc(held, func(a, b encoded[T]) int { return cmp.Compare(a.length, b.length) })
		}
		batches := (len(held) + size - 1) / size
		turns := NewPermutation(derive(l.opts.Seed, turnsKey, uint64(w)), uint64(epoch), batches)
		for i := max(first-w*window, 0); i < batches; i++ {
			at := l.turn(&turns, i) * size
			if !yield(newBatch(epoch, w*window+i, held[at:min(at+size, len(held))]), nil) {
				return
			}
		}
	}
}

func (l *Loader[T]) encode(row int) (encoded[T], error) {
	r, err := l.rows.At(row)
	if err != nil {
		return encoded[T]{}, err
	}
	item, length, err := l.opts.Encode(r)
	if err != nil {
		if e := galley.AsError(err); e.Code != galley.Unknown {
			return encoded[T]{}, err
		}
		return encoded[T]{}, galley.Errorf(galley.InvalidArgument, "data", "row %d: %w", row, err)
	}
	return encoded[T]{row: row, length: length, item: item}, nil
}

// turn returns what comes at place i of an order.
func (l *Loader[T]) turn(order *Permutation, i int) int {
	if !l.opts.Shuffle {
		return i
	}
	return order.At(i)
}

// turnsKey tells the keys of batch orders from other uses of the seed.
const turnsKey = 4

func newBatch[T any](epoch, index int, held []encoded[T]) Batch[T] {
	b := Batch[T]{
		Epoch: epoch, Index: index,
		Rows: make([]int, len(held)), Items: make([]T, len(held)), Lengths: make([]int, len(held)),
	}
	for i, e := range held {
		b.Rows[i], b.Items[i], b.Lengths[i] = e.row, e.item, e.length
		b.MaxLength = max(b.MaxLength, e.length)
	}
	return b
}
