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

// Targets are the probabilities that a student learns from, one row of classes
// after the other. Row may be called by one goroutine at a time.
type Targets struct {
	file    *os.File
	classes int
	rows    int
	buffer  []byte
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

// CheckSize refuses targets of more than MaxBytes.
func CheckSize(rows, classes int) error {
	if size := fileSize(int64(rows) * int64(classes)); size > MaxBytes {
		return galley.Errorf(galley.ResourceExhausted, "teachers", "their answers to %d rows of %d labels take %d GiB, more than %d GiB", rows, classes, size>>30, int64(MaxBytes)>>30).
			WithRemedy("choose a smaller part of the rows: data.fraction")
	}
	return nil
}

// WriteTargets averages the members' probabilities at a temperature, segment by
// segment, into a file.
func WriteTargets(ctx context.Context, path string, of galley.Digest, members []Member, classes int, temperature float64) error {
	count := int64(0)
	for _, a := range members[0].Answers {
		count += int64(a.rows.Len()) * int64(classes)
	}
	share := 1 / float64(len(members))
	return writeFile(path, of, count, func(part func([]float32) error) error {
		sums, row := make([]float64, classes), make([]float32, 0, SegmentRows*classes)
		for file, first := range members[0].Answers {
			for segment := range first.Segments() {
				if err := ctx.Err(); err != nil {
					return err
				}
				logits := make([][]float32, len(members))
				for k, m := range members {
					var err error
					if logits[k], err = m.Answers[file].Segment(ctx, segment, m.Ask); err != nil {
						return err
					}
				}
				row = row[:0]
				for i := range first.segmentRows(segment) {
					clear(sums)
					for k, m := range members {
						if !Soften(sums, logits[k][i*classes:(i+1)*classes], m.Places, temperature, share) {
							return galley.Errorf(galley.DataLoss, path, "an answer is not finite")
						}
					}
					for _, p := range sums {
						row = append(row, float32(p))
					}
				}
				if err := part(row); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// OpenTargets opens a file that WriteTargets wrote, if it is whole and of what
// it should be.
func OpenTargets(path string, of galley.Digest, rows, classes int) (*Targets, error) {
	f, err := openFile(path, of, int64(rows)*int64(classes))
	if err != nil {
		return nil, err
	}
	return &Targets{file: f, classes: classes, rows: rows}, nil
}

// Row reads the probabilities of a row.
func (t *Targets) Row(dst []float32, row int) error {
	if row < 0 || row >= t.rows {
		return galley.Errorf(galley.OutOfRange, "targets", "row %d of %d", row, t.rows)
	}
	var err error
	t.buffer, err = readAt(t.file, dst[:t.classes], int64(row)*int64(t.classes), t.buffer)
	return err
}

// Close closes the file.
func (t *Targets) Close() error {
	if t == nil {
		return nil
	}
	return t.file.Close()
}
