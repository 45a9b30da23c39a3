package rpc

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	controlpb "galley/api/control/v1"

	"galley"
)

// What a request of the control API is about may not be left out: the answer is
// the field's name, also for methods that answer with a stream.
func TestSubjectIsMissing(t *testing.T) {
	inputs := map[string]protoreflect.MessageDescriptor{}
	for _, file := range []protoreflect.FileDescriptor{
		controlpb.File_control_v1_access_proto, controlpb.File_control_v1_control_proto,
		controlpb.File_control_v1_experiments_proto, controlpb.File_control_v1_federations_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				inputs["/"+string(m.Parent().FullName())+"/"+string(m.Name())] = m.Input()
			}
		}
	}
	checked := 0
	for _, m := range calledMethods(newHome(t)) {
		input := inputs[m.name]
		if input == nil {
			continue
		}
		for _, name := range []protoreflect.Name{"experiment", "id", "job", "model", "name", "partner", "ref"} {
			f := input.Fields().ByName(name)
			if f == nil || strings.HasSuffix(m.name, "/CreateToken") { // whose name is the bearer's, or none
				continue
			}
			checked++
			err := FromStatus(m.call(t.Context(), nil))
			if err.Code != galley.InvalidArgument || err.Subject != string(name) || err.Message != "is missing" || err.Remedy == "" {
				t.Errorf("%s without %s: %v", m.name, name, err)
			}
		}
	}
	if checked < 30 {
		t.Errorf("%d methods were asked", checked)
	}
}
