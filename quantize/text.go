package quantize

import (
	"cmp"
	"fmt"
	"slices"

	"galley/dataset"
	"galley/onnx/session"
	"galley/task"
)

// Bounds of a batch of texts: tokens, which decide how much memory its
// values take, and how many texts are sorted by length at a time.
const (
	batchTokens = 1024
	window      = 1024
)

// Texts are the batches of rows of texts. Rows run together with others of
// exactly their length, so that no padding is seen as data; rows is read in
// the given order, a window at a time.
func Texts(encoder *task.TextEncoder, rows dataset.Rows, order []int) Batches {
	return func(yield func(map[string]*session.Tensor, error) bool) {
		left := order
		for len(left) > 0 {
			ids, err := tokenize(encoder, rows, left[:min(window, len(left))])
			if err != nil {
				yield(nil, err)
				return
			}
			left = left[len(ids):]
			slices.SortStableFunc(ids, func(a, b []int32) int { return cmp.Compare(len(a), len(b)) })
			for len(ids) > 0 {
				n := 1
				for n < len(ids) && len(ids[n]) == len(ids[0]) && (n+1)*len(ids[0]) <= batchTokens {
					n++
				}
				batch, err := encoder.Collate(ids[:n])
				if err != nil {
					yield(nil, err)
					return
				}
				more := yield(batch.Inputs(), nil)
				batch.Release()
				if !more {
					return
				}
				ids = ids[n:]
			}
		}
	}
}

func tokenize(encoder *task.TextEncoder, rows dataset.Rows, order []int) ([][]int32, error) {
	out := make([][]int32, len(order))
	for i, at := range order {
		row, err := rows.At(at)
		if err != nil {
			return nil, err
		}
		if out[i], _, err = encoder.Tokenize(nil, fmt.Sprintf("row %d", at), row.Text); err != nil {
			return nil, err
		}
	}
	return out, nil
}
