package federation

import (
	"errors"
	"io"
	"math"

	"galley"
)

// A Finding is what the bytes of an update turned out to be.
type Finding struct {
	Digest galley.Digest `json:"digest"`
	Norm   float64       `json:"norm"` // L2, over all tensors
}

// WriteUpdate writes what training changed, after - before, both tensors in the
// layout's order, scaled down to an L2 norm of at most clip if that is above 0.
func WriteUpdate(w io.Writer, l Layout, before, after [][]float32, clip float64) (Finding, error) {
	if err := l.Validate(); err != nil {
		return Finding{}, err
	}
	squares := 0.0
	for i, s := range l {
		n, _ := s.size()
		if i >= len(before) || i >= len(after) || int64(len(before[i])) != n || int64(len(after[i])) != n {
			return Finding{}, galley.Errorf(galley.InvalidArgument, s.Name, "has other numbers than its shape %v", s.Dims)
		}
		for j := range after[i] {
			d := float64(after[i][j]) - float64(before[i][j])
			squares += float64(d * d)
		}
	}
	norm := math.Sqrt(squares)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return Finding{}, galley.Errorf(galley.FailedPrecondition, "update", "training ended in weights that are not finite").
			WithRemedy("lower the learning rate")
	}
	scale := clipped(norm, clip)
	out, err := NewWriter(w, l)
	if err != nil {
		return Finding{}, err
	}
	squares = 0
	row := make([]float32, chunk)
	for i := range l {
		for at := 0; at < len(after[i]); at += chunk {
			part := row[:min(chunk, len(after[i])-at)]
			for j := range part {
				part[j] = float32(scale * (float64(after[i][at+j]) - float64(before[i][at+j])))
				squares += float64(float64(part[j]) * float64(part[j]))
			}
			if err := out.Write(part); err != nil {
				return Finding{}, err
			}
		}
	}
	digest, err := out.Close()
	return Finding{digest, math.Sqrt(squares)}, err
}

// clipped returns the factor that brings norm down to clip; 0 is no bound.
func clipped(norm, clip float64) float64 {
	if !(clip > 0) || norm <= clip {
		return 1
	}
	return clip / norm
}

// Inspect reads an update as it comes from a partner, holding a chunk of it at
// a time, and stops at the first thing that is wrong with it: a *Fault. Other
// errors are the reader's.
func Inspect(r io.Reader, want Layout) (Finding, error) {
	if len(want) == 0 {
		return Finding{}, errors.New("no layout to compare with")
	}
	in, err := NewReader(r, want)
	if err != nil {
		return Finding{}, err
	}
	squares := 0.0
	row := make([]float32, chunk)
	for _, s := range want {
		left, _ := s.size()
		for left > 0 {
			part := row[:min(int64(chunk), left)]
			if err := in.Read(part); err != nil {
				return Finding{}, err
			}
			for _, v := range part {
				squares += float64(float64(v) * float64(v))
			}
			// Squares of finite float32 numbers stay finite in float64.
			if math.IsNaN(squares) || math.IsInf(squares, 0) {
				return Finding{}, faultf(NotFinite, "has a number in %s that is not finite", s)
			}
			left -= int64(len(part))
		}
	}
	digest, err := in.Close()
	return Finding{digest, math.Sqrt(squares)}, err
}
