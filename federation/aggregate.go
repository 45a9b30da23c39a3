package federation

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"galley"
)

// A Part is an accepted update and what it counts.
type Part struct {
	Partner string        `json:"partner"`
	Update  galley.Digest `json:"update"`
	Share   float64       `json:"share"` // of the whole; in sum 1
	Scale   float64       `json:"scale"` // that clips it; 1 if it is short enough
}

// A SpoiltError says which update cannot be aggregated: one that was accepted,
// and is no longer what it was, or that makes the model infinite.
type SpoiltError struct {
	Partner string
	Fault   *Fault
}

func (e *SpoiltError) Error() string { return fmt.Sprintf("update of %s: %v", e.Partner, e.Fault) }

// Aggregate writes the next weights: base + Σ share · scale · update, summed in
// float64 in the order of the partners' names, and rounded once. The same parts
// give the same bits, in whatever order they come. It holds a chunk of base and
// of each update at a time, whatever the model's size. An update that spoils it
// is a *SpoiltError; what was written then is to be thrown away.
func Aggregate(w io.Writer, l Layout, base io.Reader, parts []Part, open func(galley.Digest) (io.ReadCloser, error)) (galley.Digest, error) {
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b Part) int { return cmp.Compare(a.Partner, b.Partner) })
	a := aggregation{parts: parts, updates: make([]*Reader, len(parts)), row: make([]float32, chunk), sum: make([]float64, chunk)}
	var err error
	if a.base, err = NewReader(base, l); err != nil {
		return "", fmt.Errorf("base: %w", err)
	}
	for i, p := range parts {
		f, err := open(p.Update)
		if err != nil {
			return "", spoilt(p, err)
		}
		defer f.Close()
		if a.updates[i], err = NewReader(f, l); err != nil {
			return "", spoilt(p, err)
		}
	}
	out, err := NewWriter(w, l)
	if err != nil {
		return "", err
	}
	for _, s := range l {
		left, _ := s.size()
		for left > 0 {
			n := int(min(left, chunk))
			if err := a.chunk(n, s); err != nil {
				return "", err
			}
			if err := out.Write(a.row[:n]); err != nil {
				return "", err
			}
			left -= int64(n)
		}
	}
	if err := a.close(); err != nil {
		return "", err
	}
	return out.Close()
}

// spoilt attributes an error to a part; what the storage below says is not the
// partner's.
func spoilt(p Part, err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return &SpoiltError{p.Partner, f}
	}
	return fmt.Errorf("update of %s: %w", p.Partner, err)
}

// An aggregation is a walk along base and all updates at once.
type aggregation struct {
	base    *Reader
	parts   []Part
	updates []*Reader
	row     []float32
	sum     []float64
}

// chunk computes the next n numbers, of the tensor s, into row.
func (a *aggregation) chunk(n int, s Shape) error {
	row, sum := a.row[:n], a.sum[:n]
	if err := a.base.Read(row); err != nil {
		return fmt.Errorf("base: %w", err)
	}
	for i, v := range row {
		sum[i] = float64(v)
	}
	worst, largest := 0, 0.0
	for k, u := range a.updates {
		if err := u.Read(row); err != nil {
			return spoilt(a.parts[k], err)
		}
		factor := a.parts[k].Share * a.parts[k].Scale
		for i, v := range row {
			// The conversion keeps the product from being fused with the sum,
			// which would round otherwise on other processors.
			add := float64(factor * float64(v))
			if math.Abs(add) > largest {
				worst, largest = k, math.Abs(add)
			}
			sum[i] += add
		}
	}
	for i, v := range sum {
		row[i] = float32(v)
		if f := float64(row[i]); math.IsNaN(f) || math.IsInf(f, 0) {
			if len(a.parts) == 0 {
				return galley.Errorf(galley.DataLoss, "base", "%s has numbers that are not finite", s)
			}
			return &SpoiltError{a.parts[worst].Partner, faultf(NotFinite, "would make %s infinite", s)}
		}
	}
	return nil
}

// close checks that base and updates were what they are named by.
func (a *aggregation) close() error {
	if _, err := a.base.Close(); err != nil {
		return fmt.Errorf("base: %w", err)
	}
	for k, u := range a.updates {
		digest, err := u.Close()
		if err != nil {
			return spoilt(a.parts[k], err)
		}
		if digest != a.parts[k].Update {
			return &SpoiltError{a.parts[k].Partner, faultf(Damaged, "is not what was accepted: %s", digest.Short())}
		}
	}
	return nil
}
