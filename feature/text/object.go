package text

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"galley"
)

// fileName is what errors call the file, whatever its name is on disk.
const fileName = "tokenizer.json"

// An object is a JSON object of which every member must be asked for: a field
// that galley does not know may change what the others mean. The first error
// sticks.
type object struct {
	path    string
	members map[string]json.RawMessage
	err     error
}

// invalid returns the error for the field at path.
func invalid(path, format string, args ...any) *galley.Error {
	subject := fileName
	if path != "" {
		subject += " " + path
	}
	return galley.Errorf(galley.InvalidArgument, subject, format, args...)
}

// eachMember calls yield with the members of a JSON object in their order.
func eachMember(path string, raw json.RawMessage, yield func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return invalid(path, "is not an object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return invalid(path, "is not valid JSON: %v", err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return invalid(path, "is not valid JSON: %v", err)
		}
		if err := yield(name.(string), value); err != nil {
			return err
		}
	}
	return nil
}

func parseObject(path string, raw json.RawMessage) *object {
	o := &object{path: path, members: map[string]json.RawMessage{}}
	o.err = eachMember(path, raw, func(name string, value json.RawMessage) error {
		if _, twice := o.members[name]; twice {
			return invalid(o.at(name), "is there twice")
		}
		o.members[name] = value
		return nil
	})
	return o
}

// at returns the path of a member.
func (o *object) at(name string) string {
	if o.path == "" {
		return clip(name)
	}
	return o.path + "." + clip(name)
}

func (o *object) fail(name, format string, args ...any) {
	if o.err == nil {
		o.err = invalid(o.at(name), format, args...)
	}
}

// has reports whether a member is there and not null; a null is taken.
func (o *object) has(name string) bool {
	raw, ok := o.members[name]
	if ok && string(raw) == "null" {
		delete(o.members, name)
		return false
	}
	return ok
}

// raw takes a member that must be there.
func (o *object) raw(name string) json.RawMessage {
	raw, ok := o.members[name]
	if !ok {
		o.fail(name, "is missing")
	}
	delete(o.members, name)
	return raw
}

func (o *object) decode(name, what string, into any) {
	raw := o.raw(name)
	if o.err == nil && (string(raw) == "null" || json.Unmarshal(raw, into) != nil) {
		o.fail(name, "is not %s", what)
	}
}

func (o *object) text(name string) (s string) {
	o.decode(name, "a string", &s)
	if len(s) > maxTokenBytes {
		o.fail(name, "has %d bytes, at most %d are allowed", len(s), maxTokenBytes)
	}
	return s
}

func (o *object) flag(name string) (b bool) {
	o.decode(name, "true or false", &b)
	return b
}

// number takes an integer from low to high.
func (o *object) number(name string, low, high int) (n int) {
	o.decode(name, "an integer", &n)
	if o.err == nil && (n < low || n > high) {
		o.fail(name, "%d is not within %d to %d", n, low, high)
	}
	return n
}

func (o *object) list(name string) (l []json.RawMessage) {
	o.decode(name, "a list", &l)
	return l
}

// child takes a member that is an object.
func (o *object) child(name string) *object {
	raw := o.raw(name)
	if o.err != nil {
		return &object{path: o.at(name), err: o.err}
	}
	return parseObject(o.at(name), raw)
}

// item parses an item of the list called name.
func (o *object) item(name string, i int, raw json.RawMessage) *object {
	return parseObject(fmt.Sprintf("%s[%d]", o.at(name), i), raw)
}

// oneOf takes a string that must be one of the choices.
func (o *object) oneOf(name string, choices ...string) string {
	s := o.text(name)
	if o.err == nil && !slices.Contains(choices, s) {
		o.err = invalid(o.at(name), "%q is not supported", clip(s)).WithRemedy("galley reads %s", joinOr(choices))
	}
	return s
}

// end returns the first error; a member that nobody asked for is one.
func (o *object) end() error {
	if o.err == nil && len(o.members) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(o.members)))
		o.err = invalid(o.at(name), "is not a field that galley knows")
	}
	return o.err
}

func joinOr(choices []string) string {
	var b bytes.Buffer
	for i, c := range choices {
		switch {
		case i > 0 && i == len(choices)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(c)
	}
	return b.String()
}

// clip shortens text from outside before it enters a message.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
}
