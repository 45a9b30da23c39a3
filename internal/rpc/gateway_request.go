package rpc

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"galley"
)

// Bounds of a request of the control API over HTTP.
const (
	maxControlBody = 4 << 20
	maxJSONDepth   = 32
)

// readRequest makes a route's request of path, query and body.
func readRequest(route route, r *http.Request) (proto.Message, error) {
	message := newMessage(route.method.Input())
	fields := message.ProtoReflect().Descriptor().Fields()
	if route.body == "" {
		if err := noBody(r); err != nil {
			return nil, err
		}
	} else {
		body, err := readBody(r, maxControlBody)
		if err != nil {
			return nil, err
		}
		if route.body == "*" {
			err = parseJSON(body, message)
		} else {
			// A file, as it is.
			field := fields.ByName(protoreflect.Name(route.body))
			message.ProtoReflect().Set(field, protoreflect.ValueOfBytes(body))
		}
		if err != nil {
			return nil, err
		}
	}
	values, err := query(r)
	if err != nil {
		return nil, err
	}
	if route.body == "*" && len(values) > 0 {
		return nil, galley.Errorf(galley.InvalidArgument, printable(first(values)), "is a parameter of the query").
			WithRemedy("send it in the body, as JSON")
	}
	if _, ok := values[route.body]; ok {
		return nil, galley.Errorf(galley.InvalidArgument, route.body, "is the body, no parameter of the query")
	}
	for _, name := range variables(route.path) {
		if _, ok := values[name]; ok {
			return nil, galley.Errorf(galley.InvalidArgument, name, "is part of the path, no parameter of the query")
		}
		values[name] = []string{r.PathValue(name)}
	}
	return message, setFields(message, values)
}

// newMessage makes a message of a type.
func newMessage(d protoreflect.MessageDescriptor) proto.Message {
	if t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName()); err == nil {
		return t.New().Interface()
	}
	return dynamicpb.NewMessage(d)
}

// variables are the names in a path's braces.
func variables(path string) (names []string) {
	for {
		_, rest, ok := strings.Cut(path, "{")
		if !ok {
			return names
		}
		name, rest, _ := strings.Cut(rest, "}")
		names, path = append(names, name), rest
	}
}

func first(values url.Values) string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	return slices.Min(names)
}

// query reads the parameters of the query.
func query(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, "query", "cannot be read: %w", err)
	}
	return values, nil
}

// noBody refuses a body where none is read.
func noBody(r *http.Request) error {
	if n, _ := io.ReadFull(r.Body, make([]byte, 1)); n > 0 {
		return galley.Errorf(galley.InvalidArgument, "body", "is not taken here").WithRemedy("send parameters in the query")
	}
	return nil
}

// parseJSON reads JSON into a message; an empty body is an empty object.
func parseJSON(body []byte, into proto.Message) error {
	if len(body) == 0 {
		return nil
	}
	err := protojson.UnmarshalOptions{RecursionLimit: maxJSONDepth}.Unmarshal(body, into)
	if err == nil {
		return nil
	}
	return galley.Errorf(galley.InvalidArgument, "body", "%s", strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")).
		WithRemedy("send an object with %s", fieldNames(into.ProtoReflect().Descriptor()))
}

// setFields sets a message's fields from text, by name.
func setFields(m proto.Message, values url.Values) error {
	d := m.ProtoReflect().Descriptor()
	object := map[string]any{}
	for name, texts := range values {
		field := d.Fields().ByName(protoreflect.Name(name))
		if field == nil || field.IsMap() {
			return galley.Errorf(galley.InvalidArgument, printable(name), "is no parameter of this route").
				WithRemedy("it takes %s", fieldNames(d))
		}
		items := make([]any, len(texts))
		for i, s := range texts {
			if !utf8.ValidString(s) {
				return galley.Errorf(galley.InvalidArgument, name, "is not valid UTF-8")
			}
			items[i] = jsonOf(field, s)
		}
		switch {
		case field.IsList():
			object[name] = items
		case len(items) > 1:
			return galley.Errorf(galley.InvalidArgument, name, "is given %d times", len(items)).WithRemedy("give it once")
		default:
			object[name] = items[0]
		}
	}
	for name, value := range object {
		text, err := json.Marshal(map[string]any{name: value})
		if err != nil {
			return galley.Errorf(galley.InvalidArgument, name, "cannot be read: %w", err)
		}
		one := m.ProtoReflect().New().Interface()
		if err := protojson.Unmarshal(text, one); err != nil {
			return galley.Errorf(galley.InvalidArgument, name, "%s is no %s", printable(strings.Join(values[name], ", ")), kindOf(d.Fields().ByName(protoreflect.Name(name))))
		}
		proto.Merge(m, one)
	}
	return nil
}

// jsonOf is the JSON of a field's text: protojson reads all but truth values
// from strings.
func jsonOf(field protoreflect.FieldDescriptor, text string) any {
	if field.Kind() == protoreflect.BoolKind {
		switch text {
		case "true", "1", "": // ?follow is ?follow=true
			return true
		case "false", "0":
			return false
		}
	}
	return text
}

// kindOf names what a field holds, for messages.
func kindOf(field protoreflect.FieldDescriptor) string {
	if m := field.Message(); m != nil {
		return string(m.Name())
	}
	return field.Kind().String()
}

// fieldNames lists a message's fields, for messages.
func fieldNames(d protoreflect.MessageDescriptor) string {
	if d.Fields().Len() == 0 {
		return "no fields"
	}
	var names []string
	for i := range d.Fields().Len() {
		names = append(names, string(d.Fields().Get(i).Name()))
	}
	return strings.Join(names, ", ")
}
