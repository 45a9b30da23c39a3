package dataset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"unsafe"

	"galley"
)

// Records reads a record file by row number. It holds no index in memory and
// may be used by several goroutines at once.
type Records struct {
	name  string
	r     io.ReaderAt
	rows  int64
	table int64 // where the table of blocks begins
	close func() error
}

// OpenRecords opens a record file of size bytes. name is what errors call it.
func OpenRecords(name string, r io.ReaderAt, size int64) (*Records, error) {
	rec := &Records{name: name, r: r, close: func() error { return nil }}
	if size < headerSize+footerSize {
		return nil, rec.corrupt("it is too short")
	}
	var header [headerSize]byte
	var footer [footerSize]byte
	if err := rec.read(header[:], 0); err != nil {
		return nil, err
	}
	if !bytes.Equal(header[:], recordHeader()) {
		return nil, rec.corrupt("it does not begin as one of version %d", recordVersion)
	}
	if err := rec.read(footer[:], size-footerSize); err != nil {
		return nil, err
	}
	rows := binary.LittleEndian.Uint64(footer[:])
	table := binary.LittleEndian.Uint64(footer[16:])
	if rows > MaxRows || table > uint64(size) {
		return nil, rec.corrupt("its end is damaged or missing")
	}
	rec.rows, rec.table = int64(rows), int64(table)
	if !bytes.Equal(footer[:], recordFooter(rec.rows, rec.table)) || rec.table+8*blocksOf(rec.rows)+footerSize != size {
		return nil, rec.corrupt("its end is damaged or missing")
	}
	return rec, nil
}

// OpenRecordsFile opens the record file at path; Close closes it.
func OpenRecordsFile(path string) (*Records, error) {
	f, err := os.Open(path)
	if err != nil {
		code := galley.FailedPrecondition
		if os.IsNotExist(err) {
			code = galley.NotFound
		}
		return nil, galley.Errorf(code, "record file", "%w", err)
	}
	info, err := f.Stat()
	if err == nil {
		var rec *Records
		if rec, err = OpenRecords(path, f, info.Size()); err == nil {
			rec.close = f.Close
			return rec, nil
		}
	}
	_ = f.Close()
	return nil, err
}

// Close closes a file that OpenRecordsFile opened.
func (r *Records) Close() error { return r.close() }

// Len is the number of rows.
func (r *Records) Len() int { return int(r.rows) }

// At reads row i. A row that is not what was written is an error.
func (r *Records) At(i int) (Row, error) {
	if i < 0 || int64(i) >= r.rows {
		return Row{}, galley.Errorf(galley.OutOfRange, r.name, "row %d of %d", i, r.rows)
	}
	start, end, err := r.extent(int64(i))
	if err != nil {
		return Row{}, err
	}
	if end-start < rowHeaderSize || end-start > rowHeaderSize+MaxText+MaxLabel+MaxLanguage {
		return Row{}, r.corrupt("the offset of row %d is damaged", i)
	}
	b := make([]byte, end-start)
	if err := r.read(b, start); err != nil {
		return Row{}, err
	}
	text := int(binary.LittleEndian.Uint32(b[4:]))
	label := int(binary.LittleEndian.Uint16(b[8:]))
	language := int(binary.LittleEndian.Uint16(b[10:]))
	if binary.LittleEndian.Uint32(b) != rowChecksum(int64(i), b[4:]) || text+label+language != len(b)-rowHeaderSize {
		return Row{}, r.corrupt("row %d is damaged", i)
	}
	b = b[rowHeaderSize:]
	s := unsafe.String(unsafe.SliceData(b), len(b)) // b is not written again
	return Row{Text: s[:text], Label: s[text : text+label], Language: s[text+label:]}, nil
}

// extent returns where row i begins and ends: at the next row of its block,
// or at the block's offsets.
func (r *Records) extent(i int64) (start, end int64, err error) {
	block, within := i/blockRows, i%blockRows
	var at [8]byte
	if err := r.read(at[:], r.table+8*block); err != nil {
		return 0, 0, err
	}
	offsets := binary.LittleEndian.Uint64(at[:])
	last := within == min(r.rows-block*blockRows, blockRows)-1
	if offsets > uint64(r.table) || int64(offsets)+8*(within+1) > r.table {
		return 0, 0, r.corrupt("the place of block %d is damaged", block)
	}
	var pair [16]byte
	want := pair[:]
	if last {
		want = pair[:8]
		binary.LittleEndian.PutUint64(pair[8:], offsets)
	}
	if err := r.read(want, int64(offsets)+8*within); err != nil {
		return 0, 0, err
	}
	from, to := binary.LittleEndian.Uint64(pair[:]), binary.LittleEndian.Uint64(pair[8:])
	if from < headerSize || from > to || to > offsets {
		return 0, 0, r.corrupt("the offset of row %d is damaged", i)
	}
	return int64(from), int64(to), nil
}

func (r *Records) read(b []byte, at int64) error {
	n, err := r.r.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		return r.corrupt("it ends early")
	default:
		return galley.Errorf(galley.CodeOf(err), r.name, "reading the record file: %w", err)
	}
}

func (r *Records) corrupt(format string, args ...any) error {
	return galley.Errorf(galley.DataLoss, r.name, "not a whole record file: %s", fmt.Sprintf(format, args...)).
		WithRemedy("add the data anew")
}
