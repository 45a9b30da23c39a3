package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	federationpb "galley/api/federation/v1"
)

// wireFields are the fields that messages between a partner and a coordinator
// have. Whoever adds one writes it here, and thinks of what it lets leave.
var wireFields = map[protoreflect.FullName]string{
	"galley.federation.v1.HelloRequest":        "protocols capabilities agent",
	"galley.federation.v1.HelloResponse":       "protocol capabilities partner",
	"galley.federation.v1.JoinRequest":         "agreement",
	"galley.federation.v1.JoinResponse":        "agreement federation",
	"galley.federation.v1.AttendRequest":       "federation ends run",
	"galley.federation.v1.Offer":               "protocol federation run round attempt partner agreement purpose model base min_cohort strategy mu clip weighting metrics within capabilities recipe ended",
	"galley.federation.v1.FetchModelRequest":   "federation run",
	"galley.federation.v1.ModelChunk":          "name size digest data",
	"galley.federation.v1.FetchWeightsRequest": "federation run digest offset",
	"galley.federation.v1.WeightsChunk":        "offset size data",
	"galley.federation.v1.Header":              "protocol federation run round attempt partner agreement base update rows metrics capabilities signature",
	"galley.federation.v1.Header.MetricsEntry": "key value",
	"galley.federation.v1.UploadRequest":       "header data",
	"galley.federation.v1.UploadResponse":      "accepted resent reason message",
	"galley.federation.v1.DeclineRequest":      "federation run round attempt why",
	"galley.federation.v1.DeclineResponse":     "",
	"google.protobuf.Duration":                 "seconds nanos",
}

// strayFields says which fields of a message, and of those in it, are not on the
// list, whether they are known to the protocol or not.
func strayFields(m protoreflect.Message) (stray []string) {
	d := m.Descriptor()
	listed, ok := wireFields[d.FullName()]
	if !ok {
		return []string{string(d.FullName())}
	}
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		stray = append(stray, fmt.Sprintf("%s: %d bytes that the protocol does not know", d.FullName(), len(unknown)))
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !slices.Contains(strings.Fields(listed), string(f.Name())) {
			stray = append(stray, string(f.FullName()))
		}
		switch {
		case f.Message() == nil:
		case f.IsMap():
			if inner := f.MapValue().Message(); inner != nil {
				stray = append(stray, string(inner.FullName())+" in a map")
			}
		case f.IsList():
			for i := range v.List().Len() {
				stray = append(stray, strayFields(v.List().Get(i).Message())...)
			}
		default:
			stray = append(stray, strayFields(v.Message())...)
		}
		return true
	})
	return stray
}

// The protocol has the listed fields and no others, also in messages that no
// run happens to send.
func TestWireFieldsAreListed(t *testing.T) {
	seen := map[protoreflect.FullName]bool{}
	var visit func(protoreflect.MessageDescriptor)
	visit = func(d protoreflect.MessageDescriptor) {
		if seen[d.FullName()] {
			return
		}
		seen[d.FullName()] = true
		var names []string
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			names = append(names, string(f.Name()))
			if f.Message() != nil {
				visit(f.Message())
			}
		}
		if got, want := strings.Join(names, " "), wireFields[d.FullName()]; got != want {
			t.Errorf("%s has the fields %q, and %q are listed: what does a new one let leave?", d.FullName(), got, want)
		}
	}
	service := federationpb.File_federation_v1_partners_proto.Services().ByName("Partners")
	for i := range service.Methods().Len() {
		visit(service.Methods().Get(i).Input())
		visit(service.Methods().Get(i).Output())
	}
	for name := range wireFields {
		if !seen[name] {
			t.Errorf("%s is listed, and no method has it", name)
		}
	}
}
