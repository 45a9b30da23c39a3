package distill

import (
	"context"
	"encoding/json"
	"os"

	"galley"
)

// MaxBytes bounds the probabilities that a student learns from, and the
// answers of each teacher.
const MaxBytes = 16 << 30

// Targets are what a student learns from: rows of probabilities, each with the
// first teacher's hidden state after them if that is wanted. Row may be called
// by one goroutine at a time.
type Targets struct {
	Hidden int // width of the hidden state; 0 if it is not wanted

	file   *os.File
	width  int
	rows   int
	buffer []byte
}

// A Member is a teacher of the ensemble that targets come from.
type Member struct {
	Answers []*Answers // about the rows, in their order, file by file
	Places  []int      // of the student's labels among the teacher's
	Ask     Ask        // about a segment that is missing
	close   func()     // called when it is not needed for a while
}

// TargetsOf names the targets of teachers at a temperature.
func TargetsOf(answers [][]Of, places [][]int, temperature float64) galley.Digest {
	data, err := json.Marshal(struct {
		Answers     [][]Of
		Places      [][]int
		Temperature float64
	}{answers, places, temperature})
	if err != nil { // only by a number that is none, which no spec has
		return ""
	}
	return galley.DigestBytes(append([]byte("targets/1 "), data...))
}

// CheckSize refuses targets of more than MaxBytes; width is the numbers a row.
func CheckSize(rows, width int) error {
	if size := fileSize(int64(rows) * int64(width)); size > MaxBytes {
		return galley.Errorf(galley.ResourceExhausted, "teachers", "their answers to %d rows, %d numbers each, take %d GiB, more than %d GiB", rows, width, size>>30, int64(MaxBytes)>>30).
			WithRemedy("choose a smaller part of the rows: data.fraction")
	}
	return nil
}

// WriteTargets averages the members' probabilities at a temperature, segment by
// segment, into a file; the first member's hidden state, if it says one, follows
// its row's probabilities.
func WriteTargets(ctx context.Context, path string, of galley.Digest, members []Member, classes int, temperature float64) error {
	count := int64(0)
	for _, a := range members[0].Answers {
		count += int64(a.rows.Len()) * int64(a.width)
	}
	share := 1 / float64(len(members))
	return writeFile(path, of, count, func(part func([]float32) error) error {
		sums := make([]float64, classes)
		var rows []float32
		for file, first := range members[0].Answers {
			for segment := range first.Segments() {
				if err := ctx.Err(); err != nil {
					return err
				}
				said := make([][]float32, len(members))
				for k, m := range members {
					var err error
					if said[k], err = m.Answers[file].Segment(ctx, segment, m.Ask); err != nil {
						return err
					}
				}
				rows = rows[:0]
				for i := range first.segmentRows(segment) {
					clear(sums)
					for k, m := range members {
						if !Soften(sums, said[k][i*m.Answers[file].width:][:classes], m.Places, temperature, share) {
							return galley.Errorf(galley.DataLoss, path, "an answer is not finite")
						}
					}
					for _, p := range sums {
						rows = append(rows, float32(p))
					}
					rows = append(rows, said[0][i*first.width+classes:(i+1)*first.width]...)
				}
				if err := part(rows); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// OpenTargets opens a file that WriteTargets wrote, if it is whole and of what
// it should be.
func OpenTargets(path string, of galley.Digest, rows, classes, hidden int) (*Targets, error) {
	width := classes + hidden
	f, err := openFile(path, of, int64(rows)*int64(width))
	if err != nil {
		return nil, err
	}
	return &Targets{Hidden: hidden, file: f, width: width, rows: rows}, nil
}

// Row reads a row: its probabilities, then the hidden state.
func (t *Targets) Row(dst []float32, row int) error {
	if row < 0 || row >= t.rows {
		return galley.Errorf(galley.OutOfRange, "targets", "row %d of %d", row, t.rows)
	}
	var err error
	t.buffer, err = readAt(t.file, dst[:t.width], int64(row)*int64(t.width), t.buffer)
	return err
}

// Close closes the file.
func (t *Targets) Close() error {
	if t == nil {
		return nil
	}
	return t.file.Close()
}
