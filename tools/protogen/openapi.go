package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// object is a JSON object; encoding/json sorts its names.
type object = map[string]any

// A document is the OpenAPI description of the methods that have routes. It
// follows the mapping that galley's gateway documents in control.proto.
type document struct {
	paths, schemas object
}

// writeOpenAPI describes the routes of all services in openapi.json.
func writeOpenAPI(root string, files linker.Files) error {
	d := document{paths: object{}, schemas: object{"Error": errorSchema}}
	for _, f := range files {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				d.method(methods.Get(j))
			}
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object{
		"openapi": "3.0.3",
		"info": object{
			"title": "galley", "version": "v1",
			"description": "The control API and the typed inference of galley over HTTP. Errors have one shape on all routes. " +
				"Inference with tensors is the Open Inference Protocol, version 2, at /v2, which has a description of its own.",
		},
		"paths":      d.paths,
		"components": object{"schemas": d.schemas, "securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}}},
		"security":   []object{{}, {"token": []string{}}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "openapi.json"), out.Bytes(), 0o644)
}

var errorSchema = object{
	"type": "object",
	"properties": object{"error": object{
		"type": "object",
		"properties": object{
			"code":    object{"type": "string", "description": "one of gRPC's: programs act on it", "example": "NOT_FOUND"},
			"message": object{"type": "string"},
			"subject": object{"type": "string", "description": "what the error is about"},
			"remedy":  object{"type": "string", "description": "what to do next"},
		},
	}},
}

// method describes a method's route, if it has one.
func (d *document) method(m protoreflect.MethodDescriptor) {
	rule := ruleOf(m)
	if rule == nil {
		return
	}
	verb, path := patternOf(rule)
	operation := object{
		"operationId": string(m.Parent().Name()) + "_" + string(m.Name()),
		"tags":        []string{string(m.Parent().Name())},
		"responses":   object{"200": d.answer(m), "default": reply("An error.", "application/json", ref("Error"))},
	}
	if text := comment(m); text != "" {
		operation["summary"] = text
	}
	var parameters []object
	inPath := map[protoreflect.Name]bool{}
	fields := m.Input().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case strings.Contains(path, "{"+string(f.Name())+"}"):
			inPath[f.Name()] = true
			parameters = append(parameters, d.parameter(f, "path"))
		case rule.GetBody() != "*" && rule.GetBody() != string(f.Name()):
			parameters = append(parameters, d.parameter(f, "query"))
		}
	}
	if parameters != nil {
		operation["parameters"] = parameters
	}
	if rule.GetBody() != "" {
		operation["requestBody"] = d.body(m, rule.GetBody(), inPath)
	}
	if d.paths[path] == nil {
		d.paths[path] = object{}
	}
	d.paths[path].(object)[verb] = operation
}

// ruleOf reads the option google.api.http.
func ruleOf(m protoreflect.MethodDescriptor) *annotations.HttpRule {
	// The compiler holds options as messages of its own making.
	raw, err := proto.Marshal(m.Options())
	if err != nil {
		return nil
	}
	options := new(descriptorpb.MethodOptions)
	if err := proto.Unmarshal(raw, options); err != nil || !proto.HasExtension(options, annotations.E_Http) {
		return nil
	}
	return proto.GetExtension(options, annotations.E_Http).(*annotations.HttpRule)
}

func patternOf(rule *annotations.HttpRule) (verb, path string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return "get", p.Get
	case *annotations.HttpRule_Put:
		return "put", p.Put
	case *annotations.HttpRule_Post:
		return "post", p.Post
	case *annotations.HttpRule_Delete:
		return "delete", p.Delete
	default:
		return "patch", rule.GetPatch()
	}
}

// comment is what stands above or behind a declaration, on one line.
func comment(d protoreflect.Descriptor) string {
	at := d.ParentFile().SourceLocations().ByDescriptor(d)
	text := at.LeadingComments
	if text == "" {
		text = at.TrailingComments
	}
	return strings.Join(strings.Fields(text), " ")
}

func (d *document) parameter(f protoreflect.FieldDescriptor, in string) object {
	p := object{"name": string(f.Name()), "in": in, "schema": d.field(f)}
	if in == "path" {
		p["required"] = true
	}
	if text := comment(f); text != "" {
		p["description"] = text
	}
	return p
}

// body describes a request's body: JSON, a file as it is, or a form of files.
func (d *document) body(m protoreflect.MethodDescriptor, field string, inPath map[protoreflect.Name]bool) object {
	binary := object{"type": "string", "format": "binary"}
	if field != "*" {
		return content("application/octet-stream", binary)
	}
	if m.IsStreamingClient() {
		properties := object{}
		if header := m.Input().Fields().ByName("header"); header != nil {
			for i := range header.Message().Fields().Len() {
				f := header.Message().Fields().Get(i)
				properties[string(f.Name())] = d.described(f)
			}
		}
		return content("multipart/form-data", object{
			"type": "object", "properties": properties, "additionalProperties": binary,
			"description": "Fields first, then files, by the names that the method gives them.",
		})
	}
	properties := object{}
	for i := range m.Input().Fields().Len() {
		if f := m.Input().Fields().Get(i); !inPath[f.Name()] {
			properties[string(f.Name())] = d.described(f)
		}
	}
	return content("application/json", object{"type": "object", "properties": properties, "additionalProperties": false})
}

// answer describes what a method returns.
func (d *document) answer(m protoreflect.MethodDescriptor) object {
	switch {
	case m.IsStreamingServer() && m.Output().Name() == "FileChunk":
		return reply("A tar archive of the files.", "application/x-tar", object{"type": "string", "format": "binary"})
	case m.IsStreamingServer():
		return reply("One document a line.", "application/x-ndjson", d.message(m.Output()))
	default:
		return reply("The answer.", "application/json", d.message(m.Output()))
	}
}

func reply(description, contentType string, schema object) object {
	r := content(contentType, schema)
	r["description"] = description
	return r
}

func content(contentType string, schema object) object {
	return object{"content": object{contentType: object{"schema": schema}}}
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// described is a field's schema with its comment.
func (d *document) described(f protoreflect.FieldDescriptor) object {
	schema, text := d.field(f), comment(f)
	if _, isRef := schema["$ref"]; isRef || text == "" {
		return schema // beside $ref nothing else is read
	}
	schema["description"] = text
	return schema
}

func (d *document) field(f protoreflect.FieldDescriptor) object {
	switch {
	case f.IsMap():
		return object{"type": "object", "additionalProperties": d.value(f.MapValue())}
	case f.IsList():
		return object{"type": "array", "items": d.value(f)}
	default:
		return d.value(f)
	}
}

// value is the JSON of one value, by protobuf's JSON mapping.
func (d *document) value(f protoreflect.FieldDescriptor) object {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer", "format": "int64"}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return object{"type": "string", "format": "int64"}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": "string", "format": "uint64"}
	case protoreflect.FloatKind:
		return object{"type": "number", "format": "float"}
	case protoreflect.DoubleKind:
		return object{"type": "number", "format": "double"}
	case protoreflect.BytesKind:
		return object{"type": "string", "format": "byte"}
	case protoreflect.EnumKind:
		var names []string
		for i := range f.Enum().Values().Len() {
			names = append(names, string(f.Enum().Values().Get(i).Name()))
		}
		return object{"type": "string", "enum": names}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return d.message(f.Message())
	default:
		return object{"type": "string"}
	}
}

// message refers to a message's schema, which it makes at the first mention.
func (d *document) message(m protoreflect.MessageDescriptor) object {
	switch m.FullName() {
	case "google.protobuf.Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "google.protobuf.Duration":
		return object{"type": "string", "example": "1.5s"}
	case "google.protobuf.Struct", "google.protobuf.Empty":
		return object{"type": "object"}
	}
	name := string(m.FullName())
	if d.schemas[name] == nil {
		properties := object{}
		schema := object{"type": "object", "properties": properties}
		d.schemas[name] = schema // first: a message may hold itself
		for i := range m.Fields().Len() {
			properties[string(m.Fields().Get(i).Name())] = d.described(m.Fields().Get(i))
		}
		if text := comment(m); text != "" {
			schema["description"] = text
		}
	}
	return ref(name)
}
