package distill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"galley"
	"galley/dataset"
)

// SegmentRows is how many rows a teacher is asked about, and stored, at once.
const SegmentRows = 1024

// Of names what answers are of: all that decides their bits, and nothing else.
type Of struct {
	Teacher  galley.Digest `json:"teacher"`            // of the version
	Rows     galley.Digest `json:"rows"`               // of the record file
	Fraction float64       `json:"fraction,omitempty"` // of its rows, chosen by Seed; 0 for all
	Seed     uint64        `json:"seed,omitempty"`
	Hidden   bool          `json:"hidden,omitempty"` // after the logits, the state that they come from
	Runtime  string        `json:"runtime"`
	Threads  int           `json:"threads"`
}

// Digest names the answers.
func (o Of) Digest() galley.Digest {
	data, err := json.Marshal(o)
	if err != nil { // only by a fraction that is no number, which no spec has
		return ""
	}
	return galley.DigestBytes(append([]byte("answers/1 "), data...))
}

// Ask asks a teacher about texts: the answer has its logits of each text, and
// the hidden state after them if that is wanted, one row after the other.
type Ask func(ctx context.Context, texts []string) ([]float32, error)

// Answers are what a teacher says of rows, so many numbers each, in a folder of
// files of SegmentRows rows each. Whoever finds a segment missing or damaged asks again.
type Answers struct {
	folder string
	of     galley.Digest
	rows   dataset.Rows
	width  int // numbers a row
}

// NewAnswers are the answers of a teacher, so many numbers a row, below a
// folder that others use, too.
func NewAnswers(folder string, of Of, rows dataset.Rows, width int) *Answers {
	digest := of.Digest()
	return &Answers{folder: filepath.Join(folder, digest.Hex()), of: digest, rows: rows, width: width}
}

// Segments is how many segments the rows have.
func (a *Answers) Segments() int { return (a.rows.Len() + SegmentRows - 1) / SegmentRows }

func (a *Answers) segmentRows(i int) int { return min(SegmentRows, a.rows.Len()-i*SegmentRows) }

func (a *Answers) path(i int) string { return filepath.Join(a.folder, fmt.Sprintf("%08d", i)) }

// name names a segment by what it is of: two segments are not taken for each
// other.
func (a *Answers) name(i int) galley.Digest {
	return galley.DigestBytes(fmt.Appendf(nil, "%s %d %d", a.of, i, a.width))
}

// Has reports whether a segment is there and whole.
func (a *Answers) Has(i int) bool {
	f, err := openFile(a.path(i), a.name(i), int64(a.segmentRows(i)*a.width))
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// Segment returns the answers to a segment's rows: those stored, or else what
// ask answers, which is stored for the next.
func (a *Answers) Segment(ctx context.Context, i int, ask Ask) ([]float32, error) {
	n := a.segmentRows(i) * a.width
	logits := make([]float32, n)
	if f, err := openFile(a.path(i), a.name(i), int64(n)); err == nil {
		_, err = readAt(f, logits, 0, nil)
		if err = errors.Join(err, f.Close()); err == nil {
			return logits, nil
		}
	}
	texts := make([]string, a.segmentRows(i))
	for j := range texts {
		row, err := a.rows.At(i*SegmentRows + j)
		if err != nil {
			return nil, err
		}
		texts[j] = row.Text
	}
	logits, err := ask(ctx, texts)
	if err != nil {
		return nil, err
	}
	if len(logits) != n {
		return nil, galley.Errorf(galley.FailedPrecondition, "teachers", "a teacher answered %d numbers about %d texts, not %d each", len(logits), len(texts), a.width)
	}
	for j, z := range logits {
		if math.IsNaN(float64(z)) || math.IsInf(float64(z), 0) {
			return nil, galley.Errorf(galley.FailedPrecondition, "teachers", "a teacher's answer to row %d is not finite", i*SegmentRows+j/a.width).
				WithRemedy("the model is damaged or its training diverged; choose another version")
		}
	}
	return logits, writeFile(a.path(i), a.name(i), int64(n), func(part func([]float32) error) error { return part(logits) })
}

// touch notes that the answers were of use: of those that lie there, the ones
// that were not for longest go first. The folder may be another's to write.
func (a *Answers) touch() {
	now := time.Now()
	_ = os.Chtimes(a.folder, now, now)
}
