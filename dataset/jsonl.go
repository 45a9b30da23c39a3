package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"galley"
)

// jsonlSource reads one JSON object per line. The columns of the file are
// the keys of its first object; rows may lack keys or have others.
type jsonlSource struct {
	name   string
	w      *window
	header []string
	wanted []string
	row    record
	held   map[string]json.RawMessage // the first object, until next returns it
	heldAt int64
	bad    []*badRow // lines before the first object, until next returns them
}

// maxHeadless bounds the lines that are read in search of the first object.
const maxHeadless = 1000

func newJSONLSource(name string, r io.Reader) (*jsonlSource, error) {
	w, err := newWindow(name, r)
	if err != nil {
		return nil, err
	}
	s := &jsonlSource{name: name, w: w}
	for len(s.bad) < maxHeadless {
		object, line, err := s.read()
		var bad *badRow
		switch {
		case errors.As(err, &bad):
			s.bad = append(s.bad, bad)
			continue
		case errors.Is(err, io.EOF) && len(s.bad) == 0:
			return nil, galley.Errorf(galley.InvalidArgument, name, "the file is empty").
				WithRemedy("write one JSON object per line")
		case errors.Is(err, io.EOF):
			return nil, s.headless()
		case err != nil:
			return nil, err
		}
		if len(object) > maxColumns {
			return nil, galley.Errorf(galley.InvalidArgument, name, "line %d has more than %d keys", line, maxColumns)
		}
		s.held, s.heldAt = object, line
		s.header = slices.Sorted(maps.Keys(object))
		return s, nil
	}
	return nil, s.headless()
}

func (s *jsonlSource) headless() error {
	return galley.Errorf(galley.InvalidArgument, s.name, "no line is a JSON object; line %d: %s", s.bad[0].line, s.bad[0].why).
		WithRemedy("write one JSON object per line")
}

func (s *jsonlSource) columns() []string { return s.header }

func (s *jsonlSource) want(columns []string) {
	s.wanted = columns
	s.row.values = make([]string, len(columns))
}

func (s *jsonlSource) next() (record, error) {
	if len(s.bad) > 0 {
		bad := s.bad[0]
		s.bad = s.bad[1:]
		return record{}, bad
	}
	object, line := s.held, s.heldAt
	if s.held = nil; object == nil {
		var err error
		if object, line, err = s.read(); err != nil {
			return record{}, err
		}
	}
	s.row.line = line
	for i, name := range s.wanted {
		value, ok := jsonScalar(object[name])
		if !ok {
			return record{}, &badRow{line, fmt.Sprintf("wrong type: %q is not a string, an integer or a boolean", galley.Clip(name, 200))}
		}
		s.row.values[i] = value
	}
	return s.row, nil
}

// read returns the object on the next line that is not blank.
func (s *jsonlSource) read() (map[string]json.RawMessage, int64, error) {
	for {
		b, line, err := s.w.nextLine()
		var bad *badRow
		switch {
		case errors.Is(err, io.EOF), errors.As(err, &bad):
			return nil, line, err
		case err != nil:
			return nil, line, readError(s.name, line, err)
		case len(bytes.TrimSpace(b)) == 0:
			continue
		case !utf8.Valid(b): // encoding/json would repair it silently
			return nil, line, &badRow{line, invalidUTF8}
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(b, &object); err != nil {
			return nil, line, &badRow{line, jsonWhy(err, len(b))}
		}
		if object == nil {
			return nil, line, &badRow{line, "wrong type: the line is null, not an object"}
		}
		return object, line, nil
	}
}

func jsonWhy(err error, length int) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("invalid JSON at column %d: %v", min(syntax.Offset, int64(length)+1), syntax)
	case errors.As(err, &kind):
		return fmt.Sprintf("wrong type: the line is %s, not an object", kind.Value)
	default:
		return "invalid JSON: " + galley.Clip(err.Error(), 200)
	}
}

// jsonScalar returns the text of a string, an integer or a boolean; of null
// or nothing, the empty string.
func jsonScalar(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 {
		return "", true
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err == nil
	case c == 'n':
		return "", true
	case c == 't', c == 'f':
		return string(raw), true
	case bytes.ContainsAny(raw, ".eE[{"):
		return "", false
	default:
		return string(raw), true
	}
}
