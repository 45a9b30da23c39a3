package dataset

import (
	"context"
	"errors"
	"iter"
)

// A NumberedRow is a row of a file and the line it stands on; see Rejection.
type NumberedRow struct {
	Row
	Line int64
}

// ReadNumbered is Read for those who answer row by row and have to say which
// row they mean.
func ReadNumbered(ctx context.Context, in Input, opts ReadOptions, rejected *Rejections) iter.Seq2[NumberedRow, error] {
	return func(yield func(NumberedRow, error) bool) {
		_, err := read(ctx, in, opts, rejected, func(line int64, row Row) error {
			if !yield(NumberedRow{row, line}, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(NumberedRow{}, err)
		}
	}
}
