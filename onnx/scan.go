package onnx

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"galley"
	onnxpb "galley/api/onnx/v1"
)

// A scanner walks the wire format of a model before anything is allocated for
// it: it counts nodes, tensors and parts against the limits, bounds nesting,
// and refuses fields that the schema does not have. A few bytes can stand for
// a large structure, so this cannot wait until after decoding.
type scanner struct {
	limits   Limits
	nodes    int
	tensors  int
	elements int
	expanded int64 // bytes of varint lists once decoded
}

var (
	graphMessage  = (&onnxpb.GraphProto{}).ProtoReflect().Descriptor().FullName()
	nodeMessage   = (&onnxpb.NodeProto{}).ProtoReflect().Descriptor().FullName()
	tensorMessage = (&onnxpb.TensorProto{}).ProtoReflect().Descriptor().FullName()
	modelMessage  = (&onnxpb.ModelProto{}).ProtoReflect().Descriptor()
)

// maxMessageDepth bounds the nesting of messages within one graph, where
// types nest (a sequence of sequences).
const maxMessageDepth = 16

// A place is how deep a message lies: in how many graphs, and how many
// messages below the innermost one.
type place struct{ graphs, messages int }

// scan checks a model's bytes.
func scan(data []byte, limits Limits) error {
	s := &scanner{limits: limits}
	return s.message(data, modelMessage, place{})
}

func (s *scanner) message(data []byte, m protoreflect.MessageDescriptor, at place) error {
	if at.messages++; m.FullName() == graphMessage {
		at = place{graphs: at.graphs + 1}
	}
	if at.graphs > s.limits.Depth+1 {
		return galley.Errorf(galley.ResourceExhausted, "model", "graphs nest deeper than %d", s.limits.Depth)
	}
	if at.messages > maxMessageDepth {
		return galley.Errorf(galley.ResourceExhausted, "model", "%s nests deeper than %d", m.Name(), maxMessageDepth)
	}
	if err := s.count(m.FullName()); err != nil {
		return err
	}
	fields := m.Fields()
	for len(data) > 0 {
		number, wire, n := protowire.ConsumeTag(data)
		if n < 0 {
			return broken(m, protowire.ParseError(n))
		}
		data = data[n:]
		f := fields.ByNumber(number)
		if f == nil {
			return galley.Errorf(galley.Unimplemented, "model", "%s has the unknown field %d", m.Name(), number).
				WithRemedy("this is no ONNX model, or one of a newer format than IR version %d", MaxIRVersion)
		}
		n, err := s.field(data, f, wire, at)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// field checks one occurrence of f and returns its length.
func (s *scanner) field(data []byte, f protoreflect.FieldDescriptor, wire protowire.Type, at place) (int, error) {
	if wire != protowire.BytesType {
		if wire != wireOf(f.Kind()) {
			return 0, mismatch(f, wire)
		}
		if f.IsList() {
			if err := s.expand(1); err != nil {
				return 0, err
			}
		}
		n := protowire.ConsumeFieldValue(f.Number(), wire, data)
		if n < 0 {
			return 0, broken(f, protowire.ParseError(n))
		}
		return n, nil
	}
	value, n := protowire.ConsumeBytes(data)
	if n < 0 {
		return 0, broken(f, protowire.ParseError(n))
	}
	switch f.Kind() {
	case protoreflect.MessageKind:
		return n, s.message(value, f.Message(), at)
	case protoreflect.StringKind:
		if !utf8.Valid(value) {
			return 0, invalid("model", "%s is not valid UTF-8", f.FullName())
		}
		return n, s.part()
	case protoreflect.BytesKind:
		return n, s.part()
	}
	if !f.IsList() {
		return 0, mismatch(f, wire)
	}
	if wireOf(f.Kind()) == protowire.VarintType {
		count := int64(0)
		for _, b := range value {
			if b < 0x80 {
				count++
			}
		}
		return n, s.expand(count)
	}
	return n, nil
}

func (s *scanner) count(message protoreflect.FullName) error {
	switch message {
	case nodeMessage:
		if s.nodes++; s.nodes > s.limits.Nodes {
			return tooMany("nodes", s.limits.Nodes)
		}
	case tensorMessage:
		if s.tensors++; s.tensors > s.limits.Tensors {
			return tooMany("tensors", s.limits.Tensors)
		}
	}
	return s.part()
}

func (s *scanner) part() error {
	if s.elements++; s.elements > s.limits.Elements {
		return tooMany("parts", s.limits.Elements)
	}
	return nil
}

// expand counts numbers that take 1 byte in the file and up to 8 in memory.
func (s *scanner) expand(count int64) error {
	if s.expanded += 8 * count; s.expanded > s.limits.TensorBytes {
		return galley.Errorf(galley.ResourceExhausted, "model", "its numbers take more than %d bytes", s.limits.TensorBytes)
	}
	return nil
}

func tooMany(what string, limit int) error {
	return galley.Errorf(galley.ResourceExhausted, "model", "has more than %d %s", limit, what)
}

// broken is an error about bytes that are not in wire format.
func broken(where protoreflect.Descriptor, err error) error {
	return invalid("model", "is not a complete ONNX file: %s: %w", where.FullName(), err).
		WithRemedy("check that the file was copied whole")
}

func mismatch(f protoreflect.FieldDescriptor, wire protowire.Type) error {
	return broken(f, fmt.Errorf("wire type %d does not fit %v", wire, f.Kind()))
}

// wireOf is the wire type of a single value.
func wireOf(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	default:
		return protowire.VarintType
	}
}
