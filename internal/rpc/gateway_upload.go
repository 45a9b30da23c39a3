package rpc

import (
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	controlpb "galley/api/control/v1"

	"galley"
)

// Bounds of a form that uploads files; its files are bounded where they are
// stored.
const (
	maxFormFields = 64
	maxFormValue  = 64 << 10
	pieceSize     = 256 << 10
)

// The fields of a message of an upload over gRPC.
const (
	headerField = "header"
	pieceField  = "piece"
)

// An upload turns a multipart form into the messages that a client of the
// stream would send: the form's fields are the header's, its files the pieces.
type upload struct {
	message protoreflect.MessageDescriptor
	form    *multipart.Reader
	first   proto.Message   // the header, if there is one to send
	part    *multipart.Part // the file that is being read
	begun   bool            // a piece of part was sent
	err     error           // why the form could not be read on
}

// newUpload reads the form up to its first file.
func newUpload(route route, r *http.Request, control *http.ResponseController, stall time.Duration) (*upload, error) {
	u := &upload{message: route.method.Input()}
	if field := u.message.Fields().ByName(pieceField); field == nil || field.Message().FullName() != (&controlpb.FilePiece{}).ProtoReflect().Descriptor().FullName() {
		return nil, galley.Errorf(galley.Unimplemented, route.path, "is answered over gRPC only")
	}
	r.Body = &stallingBody{ReadCloser: r.Body, control: control, stall: stall}
	form, err := r.MultipartReader()
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, "body", "is no multipart form").
			WithRemedy("send fields and files as curl -F does")
	}
	u.form = form
	values := url.Values{}
	for n := 0; ; n++ {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, uploadError(err)
		}
		if part.FileName() != "" {
			u.part = part
			break
		}
		if n == maxFormFields {
			return nil, galley.Errorf(galley.InvalidArgument, "body", "the form has more than %d fields", maxFormFields)
		}
		value, err := io.ReadAll(io.LimitReader(part, maxFormValue+1))
		if err != nil {
			return nil, uploadError(err)
		}
		if len(value) > maxFormValue {
			return nil, galley.Errorf(galley.InvalidArgument, printable(part.FormName()), "has more than %d bytes", maxFormValue)
		}
		values.Add(part.FormName(), string(value))
	}
	return u, u.header(values)
}

// header makes the first message.
func (u *upload) header(values url.Values) error {
	field := u.message.Fields().ByName(headerField)
	if field == nil {
		if len(values) > 0 {
			return galley.Errorf(galley.InvalidArgument, printable(first(values)), "is no file").WithRemedy("send files only: curl -F model.onnx=@model.onnx")
		}
		return nil
	}
	header := newMessage(field.Message())
	if err := setFields(header, values); err != nil {
		return err
	}
	u.first = newMessage(u.message)
	u.first.ProtoReflect().Set(field, protoreflect.ValueOfMessage(header.ProtoReflect()))
	return nil
}

// next returns the messages, then io.EOF.
func (u *upload) next() (proto.Message, error) {
	m, err := u.read()
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = err
	}
	return m, err
}

func (u *upload) read() (proto.Message, error) {
	if m := u.first; m != nil {
		u.first = nil
		return m, nil
	}
	for u.part != nil {
		data := make([]byte, pieceSize)
		n, err := io.ReadFull(u.part, data)
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return nil, uploadError(err)
		}
		name, path, empty := u.part.FormName(), u.part.FileName(), n == 0 && u.begun
		u.begun = true
		if ended {
			if err := u.nextFile(); err != nil {
				return nil, err
			}
		}
		if !empty {
			return u.piece(name, path, data[:n]), nil
		}
	}
	return nil, io.EOF
}

// nextFile moves on to the form's next part, which must be a file.
func (u *upload) nextFile() error {
	part, err := u.form.NextPart()
	u.part, u.begun = nil, false
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return uploadError(err)
	case part.FileName() == "":
		return galley.Errorf(galley.InvalidArgument, printable(part.FormName()), "comes after a file").WithRemedy("send the form's fields before its files")
	}
	u.part = part
	return nil
}

func (u *upload) piece(name, path string, data []byte) proto.Message {
	m := newMessage(u.message)
	piece := &controlpb.FilePiece{Name: utf8Text(name), Path: utf8Text(path), Data: data}
	m.ProtoReflect().Set(u.message.Fields().ByName(pieceField), protoreflect.ValueOfMessage(piece.ProtoReflect()))
	return m
}

func uploadError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errStalled
	}
	return galley.Errorf(galley.InvalidArgument, "body", "the form cannot be read to its end: %w", err)
}

// A stallingBody may take any time as a whole, and stall for each piece.
type stallingBody struct {
	io.ReadCloser
	control *http.ResponseController
	stall   time.Duration
	ended   error
}

func (b *stallingBody) Read(p []byte) (n int, err error) {
	// From its end on the connection is watched for its client's leaving: a
	// deadline then would end a request that takes its time.
	if b.ended != nil {
		return 0, b.ended
	}
	// Not all requests of tests have deadlines.
	_ = b.control.SetReadDeadline(time.Now().Add(b.stall))
	n, b.ended = b.ReadCloser.Read(p)
	return n, b.ended
}
