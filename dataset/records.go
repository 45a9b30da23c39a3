package dataset

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"

	"galley"
)

// The record file, all numbers little-endian:
//
//	header   16 bytes   magic "GALLEYRC", version uint32, rows per block uint32
//	blocks              up to 1,024 rows, then the offset of each (uint64)
//	table    8 a block  where each block's offsets begin (uint64)
//	footer   40 bytes   rows uint64, blocks uint64, start of the table uint64,
//	                    CRC of the footer so far and the header uint32,
//	                    zero uint32, magic
//
//	row      12 bytes   CRC uint32 of the row's number and all that follows it,
//	                    length of the text uint32, of the label uint16, of the
//	                    language uint16; then text, label and language
//
// CRCs are CRC-32C. Row i is found with two small reads: its block's place in
// the table, its offset in the block. A writer holds eight bytes per block.
const (
	recordMagic   = "GALLEYRC"
	recordVersion = 1
	blockRows     = 1024
	headerSize    = 16
	footerSize    = 40
	rowHeaderSize = 12
)

// MaxRows is the most rows that a record file may have.
const MaxRows = math.MaxUint32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A RecordWriter writes a record file. Close completes it; it does not close
// the writer beneath.
type RecordWriter struct {
	w       io.Writer
	buf     []byte
	offset  int64 // bytes written
	rows    int64
	offsets []byte // of the block's rows
	table   []byte // of the blocks before
	err     error
}

// NewRecordWriter begins a record file on w, which should be buffered.
func NewRecordWriter(w io.Writer) *RecordWriter {
	rw := &RecordWriter{w: w, offsets: make([]byte, 0, 8*blockRows)}
	rw.write(recordHeader())
	return rw
}

func recordHeader() []byte {
	b := append(make([]byte, 0, headerSize), recordMagic...)
	b = binary.LittleEndian.AppendUint32(b, recordVersion)
	return binary.LittleEndian.AppendUint32(b, blockRows)
}

// Append writes a row. After an error the file is of no use.
func (w *RecordWriter) Append(row Row) error {
	if len(row.Text) > MaxText || len(row.Label) > MaxLabel || len(row.Language) > MaxLanguage || w.rows == MaxRows {
		return galley.Errorf(galley.OutOfRange, "record file", "row %d is beyond the bounds of a record file", w.rows)
	}
	b := append(w.buf[:0], 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(row.Text)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(row.Label)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(row.Language)))
	b = append(b, row.Text...)
	b = append(b, row.Label...)
	b = append(b, row.Language...)
	binary.LittleEndian.PutUint32(b, rowChecksum(w.rows, b[4:]))
	w.buf = b

	w.offsets = binary.LittleEndian.AppendUint64(w.offsets, uint64(w.offset))
	w.rows++
	w.write(b)
	if w.rows%blockRows == 0 {
		w.endBlock()
	}
	return w.err
}

// Rows is the number of rows appended so far.
func (w *RecordWriter) Rows() int64 { return w.rows }

// Close writes the table and the footer.
func (w *RecordWriter) Close() error {
	if len(w.offsets) > 0 {
		w.endBlock()
	}
	start := w.offset
	w.write(w.table)
	w.write(recordFooter(w.rows, start))
	return w.err
}

func recordFooter(rows, table int64) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, footerSize), uint64(rows))
	b = binary.LittleEndian.AppendUint64(b, uint64(blocksOf(rows)))
	b = binary.LittleEndian.AppendUint64(b, uint64(table))
	sum := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, recordHeader())
	b = binary.LittleEndian.AppendUint32(b, sum)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return append(b, recordMagic...)
}

func (w *RecordWriter) endBlock() {
	w.table = binary.LittleEndian.AppendUint64(w.table, uint64(w.offset))
	w.write(w.offsets)
	w.offsets = w.offsets[:0]
}

func (w *RecordWriter) write(b []byte) {
	if w.err != nil || len(b) == 0 {
		return
	}
	n, err := w.w.Write(b)
	w.offset += int64(n)
	w.err = err
}

func blocksOf(rows int64) int64 { return (rows + blockRows - 1) / blockRows }

func rowChecksum(number int64, b []byte) uint32 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(number))
	return crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, b)
}
