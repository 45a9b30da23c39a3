package dataset

import (
	"bytes"
	"errors"
	"io"

	"galley"
)

// maxRecord bounds the bytes of one record of a text file, line ends and all.
const maxRecord = 4 << 20

// A window is the part of a text file that is in memory: the record being
// read and what was read beyond it. It grows to maxRecord and no further.
type window struct {
	r    io.Reader
	buf  []byte
	pos  int // start of what has not been consumed
	line int64
	eof  bool
}

func newWindow(name string, r io.Reader) (*window, error) {
	w := &window{r: r, buf: make([]byte, 0, 64<<10), line: 1}
	if err := w.fill(); err != nil {
		return nil, readError(name, 1, err)
	}
	b := w.bytes()
	switch {
	case bytes.HasPrefix(b, []byte("\xff\xfe")), bytes.HasPrefix(b, []byte("\xfe\xff")):
		return nil, galley.Errorf(galley.InvalidArgument, name, "the file is UTF-16").WithRemedy("save it as UTF-8")
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		w.pos += 3
	}
	return w, nil
}

// bytes returns what has been read and not consumed.
func (w *window) bytes() []byte { return w.buf[w.pos:] }

// consume moves past n bytes and counts their lines.
func (w *window) consume(n int) {
	w.line += int64(bytes.Count(w.buf[w.pos:w.pos+n], []byte{'\n'}))
	w.pos += n
}

// full reports whether the window holds as much as it may.
func (w *window) full() bool { return len(w.buf)-w.pos >= maxRecord }

// fill reads more. It returns nil, with eof set, at the end of the file.
func (w *window) fill() error {
	if w.eof || w.full() {
		return nil
	}
	if w.pos > 0 { // keep only what is not consumed
		w.buf = w.buf[:copy(w.buf, w.buf[w.pos:])]
		w.pos = 0
	}
	if len(w.buf) == cap(w.buf) {
		grown := make([]byte, len(w.buf), min(2*cap(w.buf), maxRecord))
		copy(grown, w.buf)
		w.buf = grown
	}
	empty := 0
	for len(w.buf) < cap(w.buf) { // to the brim, so that a long record is not searched often
		n, err := w.r.Read(w.buf[len(w.buf):cap(w.buf)])
		w.buf = w.buf[:len(w.buf)+n]
		if empty++; n > 0 {
			empty = 0
		}
		switch {
		case errors.Is(err, io.EOF):
			w.eof = true
			return nil
		case err != nil:
			return err
		case empty == 100:
			return io.ErrNoProgress
		}
	}
	return nil
}

// nextLine returns the next line without its end, consumed. A line longer
// than the window is skipped whole and reported by a *badRow.
func (w *window) nextLine() ([]byte, int64, error) {
	searched := 0
	for {
		b := w.bytes()
		if i := bytes.IndexByte(b[searched:], '\n'); i >= 0 {
			at := w.line
			w.consume(searched + i + 1)
			return bytes.TrimSuffix(b[:searched+i], []byte{'\r'}), at, nil
		}
		if w.eof {
			if len(b) == 0 {
				return nil, w.line, io.EOF
			}
			at := w.line
			w.consume(len(b))
			return b, at, nil
		}
		if w.full() {
			at := w.line
			if err := w.skipLine(); err != nil {
				return nil, at, err
			}
			return nil, at, &badRow{line: at, why: "the line is longer than 4 MiB"}
		}
		searched = len(b)
		if err := w.fill(); err != nil {
			return nil, w.line, err
		}
	}
}

// skipLine consumes everything up to and including the next line end.
func (w *window) skipLine() error {
	for {
		b := w.bytes()
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			w.consume(i + 1)
			return nil
		}
		w.consume(len(b))
		if w.eof {
			return nil
		}
		if err := w.fill(); err != nil {
			return err
		}
	}
}
