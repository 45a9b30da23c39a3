package rpc

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	controlpb "galley/api/control/v1"

	"galley"
)

// controlPackage has the services whose requests begin with their subject.
var controlPackage = controlpb.File_control_v1_control_proto.Package()

// subjects are the fields that say what a request of the control API is about,
// and where to look for what they name.
var subjects = map[protoreflect.Name]string{
	"experiment": "name an experiment; those there are: galley ab list",
	"id":         "name a token by its id; those there are: galley auth token list",
	"job":        "name a job; those there are: galley jobs list",
	"name":       "write a name; those there are: galley models list, galley data list",
	"partner":    "name a partner; those there are: galley federation partners",
	"ref":        "write a name, or name@3 for a version of it",
}

// checkSubject refuses a request whose first field is its subject and is empty:
// it would be told that there is no such thing, without a word of which.
func checkSubject(request any) error {
	m, ok := request.(proto.Message)
	if !ok {
		return nil
	}
	r := m.ProtoReflect()
	d := r.Descriptor()
	if d.ParentFile().Package() != controlPackage {
		return nil
	}
	f := d.Fields().ByNumber(1)
	if f == nil || f.Kind() != protoreflect.StringKind || f.IsList() {
		return nil
	}
	if remedy, ok := subjects[f.Name()]; ok && r.Get(f).String() == "" {
		return galley.Errorf(galley.InvalidArgument, string(f.Name()), "is missing").WithRemedy("%s", remedy)
	}
	return nil
}
