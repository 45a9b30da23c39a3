package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"galley"
)

// csvSource reads RFC 4180. Unlike encoding/csv it goes on after a broken
// quote: the row is rejected and reading resumes at the line after the one on
// which the row began, which loses no row that has no part in the damage.
type csvSource struct {
	name   string
	w      *window
	header []string
	wanted []int
	fields []string // of the row at hand
	row    record
}

func newCSVSource(name string, r io.Reader) (*csvSource, error) {
	w, err := newWindow(name, r)
	if err != nil {
		return nil, err
	}
	s := &csvSource{name: name, w: w}
	_, header, err := s.read()
	var bad *badRow
	switch {
	case errors.Is(err, io.EOF):
		return nil, galley.Errorf(galley.InvalidArgument, name, "the file is empty").
			WithRemedy("the first line must name the columns")
	case errors.As(err, &bad):
		return nil, galley.Errorf(galley.InvalidArgument, name, "the header, line %d: %s", bad.line, bad.why).
			WithRemedy("the first line must name the columns, separated by commas")
	case err != nil:
		return nil, err
	}
	s.header = slices.Clone(header)
	for i, column := range s.header {
		column = strings.TrimSpace(column)
		s.header[i] = column
		if !utf8.ValidString(column) {
			return nil, galley.Errorf(galley.InvalidArgument, name, "the header is not valid UTF-8").WithRemedy("save the file as UTF-8")
		}
		if slices.Contains(s.header[:i], column) && column != "" {
			return nil, galley.Errorf(galley.InvalidArgument, name, "two columns are named %q", galley.Clip(column, 200)).WithRemedy("rename one")
		}
	}
	return s, nil
}

func (s *csvSource) columns() []string { return s.header }

func (s *csvSource) want(columns []string) {
	for _, name := range columns {
		s.wanted = append(s.wanted, slices.Index(s.header, name))
	}
	s.row.values = make([]string, len(columns))
}

func (s *csvSource) next() (record, error) {
	line, fields, err := s.read()
	if err != nil {
		return record{}, err
	}
	if len(fields) != len(s.header) {
		return record{}, &badRow{line, fmt.Sprintf("%d fields where the header has %d", len(fields), len(s.header))}
	}
	s.row.line = line
	for i, at := range s.wanted {
		s.row.values[i] = fields[at]
	}
	return s.row, nil
}

// read returns the fields of the next row that is not a blank line, and the
// line on which it begins.
func (s *csvSource) read() (int64, []string, error) {
	for {
		b := s.w.bytes()
		fields, n, err := parseCSV(s.fields[:0], b, s.w.eof)
		s.fields = fields
		line := s.w.line
		switch {
		case err == nil && n == 0:
			return line, nil, io.EOF
		case err == nil:
			s.w.consume(n)
			if len(fields) > 0 {
				return line, fields, nil
			}
		case errors.Is(err, errPartialCSV) && !s.w.full():
			if err := s.w.fill(); err != nil {
				return line, nil, readError(s.name, line, err)
			}
		default:
			if errors.Is(err, errPartialCSV) {
				err = errLongCSV
			}
			if err := s.w.skipLine(); err != nil {
				return line, nil, readError(s.name, line, err)
			}
			return line, nil, &badRow{line, err.Error()}
		}
	}
}

var (
	errPartialCSV = errors.New("the row goes on")
	errLongCSV    = errors.New("the row is longer than 4 MiB, or a quote opens and does not close")
	errOpenQuote  = errors.New("broken quote: it opens and does not close")
	errAfterQuote = errors.New("broken quote: text follows the closing quote")
	errBareQuote  = errors.New("broken quote: a quote inside a field that does not begin with one")
	errManyFields = fmt.Errorf("more than %d fields", maxColumns)
)

// parseCSV reads one row from the start of b, of which more may follow unless
// eof, and returns its fields and its length in bytes. A blank line has no
// fields and some length; the end of the file has neither. The error is
// errPartialCSV if b ends too early to tell.
func parseCSV(fields []string, b []byte, eof bool) ([]string, int, error) {
	if n, ok := lineEnd(b, eof); ok {
		return fields, n, nil
	}
	pos := 0
	for {
		if len(fields) == maxColumns {
			return fields, pos, errManyFields
		}
		field, n, err := parseCSVField(b[pos:], eof)
		if err != nil {
			return fields, pos, err
		}
		fields = append(fields, field)
		pos += n
		if pos < len(b) && b[pos] == ',' {
			pos++
			continue
		}
		end, ok := lineEnd(b[pos:], eof)
		if !ok { // a field ends at a comma, at a line end, or where b ends
			return fields, pos, errPartialCSV
		}
		return fields, pos + end, nil
	}
}

// parseCSVField reads one field and returns its length in the file. It stops
// at a comma, at a line end, or where b ends.
func parseCSVField(b []byte, eof bool) (string, int, error) {
	if len(b) == 0 || b[0] != '"' {
		n := bytes.IndexAny(b, ",\n\"")
		switch {
		case n < 0:
			n = len(b)
		case b[n] == '"':
			return "", 0, errBareQuote
		}
		text := b[:n]
		if n == len(b) || b[n] == '\n' {
			text = bytes.TrimSuffix(text, []byte{'\r'})
		}
		return string(text), len(text), nil
	}
	var text []byte
	escaped := false
	for pos := 1; ; {
		n := bytes.IndexByte(b[pos:], '"')
		if n < 0 {
			if eof {
				return "", 0, errOpenQuote
			}
			return "", 0, errPartialCSV
		}
		part := b[pos : pos+n]
		pos += n + 1
		if pos < len(b) && b[pos] == '"' { // two quotes stand for one
			text = append(append(text, part...), '"')
			escaped = true
			pos++
			continue
		}
		if pos == len(b) && !eof {
			return "", 0, errPartialCSV
		}
		if pos < len(b) && b[pos] != ',' {
			if _, ok := lineEnd(b[pos:], true); !ok {
				return "", 0, errAfterQuote
			}
		}
		if !escaped {
			return string(part), pos, nil
		}
		return string(append(text, part...)), pos, nil
	}
}

// lineEnd reports whether b begins with a line end or is the end of the file,
// and the line end's length. A carriage return at the end of the file counts.
func lineEnd(b []byte, eof bool) (int, bool) {
	switch {
	case len(b) == 0:
		return 0, eof
	case b[0] == '\n':
		return 1, true
	case len(b) >= 2 && b[0] == '\r' && b[1] == '\n':
		return 2, true
	case len(b) == 1 && b[0] == '\r' && eof:
		return 1, true
	default:
		return 0, false
	}
}
