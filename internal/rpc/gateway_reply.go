package rpc

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	controlpb "galley/api/control/v1"

	"galley"
)

// stallTime is how long a reader or writer may take for the next piece of a
// body that has no end in sight.
const stallTime = time.Minute

// answers writes messages as JSON. Fields have the names of the schema; those
// without a value are written, so that a reader finds what there could be.
var answers = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// A reply writes a method's answers: one as JSON, many as one JSON document a
// line, files as a tar archive.
type reply struct {
	writer  http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	begun   bool // the status has been sent
	lines   bool
	archive *tar.Writer
	left    int64 // bytes of the archive's file that are to come
	file    string
}

// many prepares for a stream of messages of a type.
func (a *reply) many(d protoreflect.MessageDescriptor) {
	if d.FullName() == (&controlpb.FileChunk{}).ProtoReflect().Descriptor().FullName() {
		a.archive = tar.NewWriter(a.writer)
		return
	}
	a.lines = true
}

// begin sends the status and the header.
func (a *reply) begin(contentType string) {
	if a.begun {
		return
	}
	a.begun = true
	h := a.writer.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	a.writer.WriteHeader(http.StatusOK)
}

// send writes one message.
func (a *reply) send(m proto.Message) error {
	if a.archive != nil {
		return a.sendFile(m.(*controlpb.FileChunk))
	}
	line, err := answers.Marshal(m)
	if err != nil {
		return galley.Errorf(galley.Internal, "answer", "cannot be written: %w", err)
	}
	var compact bytes.Buffer // protojson varies its spaces on purpose
	if err := json.Compact(&compact, line); err != nil {
		return galley.Errorf(galley.Internal, "answer", "cannot be written: %w", err)
	}
	compact.WriteByte('\n')
	if !a.lines {
		a.begin("application/json")
		return a.write(compact.Bytes())
	}
	a.begin("application/x-ndjson")
	if err := a.write(compact.Bytes()); err != nil {
		return err
	}
	return a.control.Flush()
}

// sendFile writes a piece of a file into the archive.
func (a *reply) sendFile(c *controlpb.FileChunk) error {
	a.begin("application/x-tar")
	a.stalls()
	if a.left == 0 && (c.GetPath() != a.file || len(c.GetData()) > 0) {
		a.file, a.left = c.GetPath(), c.GetSize()
		if err := a.archive.WriteHeader(&tar.Header{Name: c.GetPath(), Mode: 0o644, Size: c.GetSize()}); err != nil {
			return err
		}
	}
	n, err := a.archive.Write(c.GetData())
	a.left -= int64(n)
	return err
}

func (a *reply) write(data []byte) error {
	a.stalls()
	_, err := a.writer.Write(data)
	return err
}

// stalls gives the next piece of a stream its time.
func (a *reply) stalls() {
	// Not all writers of tests have deadlines.
	_ = a.control.SetWriteDeadline(time.Now().Add(a.stall))
}

// finish ends what was begun.
func (a *reply) finish() error {
	if a.archive != nil {
		a.begin("application/x-tar")
		return a.archive.Close()
	}
	if a.lines && !a.begun {
		a.begin("application/x-ndjson")
	}
	return nil
}

// failed ends a stream with its error: as the last line, or, in an archive, by
// breaking it off, which its reader notices.
func (a *reply) failed(e *galley.Error) {
	if a.archive != nil {
		panic(http.ErrAbortHandler)
	}
	line, err := json.Marshal(map[string]any{"error": e})
	if err != nil {
		return
	}
	// Who asked may have gone.
	_ = a.write(append(line, '\n'))
}

// controlError is an error as clients of the control API see it.
func controlError(err error) *galley.Error { return FromStatus(status.Convert(statusOf(err)).Err()) }

// failControl writes an error in the control API's shape.
func (a *httpAPI) failControl(w http.ResponseWriter, err error) {
	code, e := 0, (*galley.Error)(nil)
	if own := (*refusal)(nil); errors.As(err, &own) {
		code, e = own.status, &galley.Error{Code: own.code(), Message: own.message}
	} else {
		e = controlError(err)
		code = httpStatus(e.Code)
	}
	setRetry(w, e)
	a.write(w, code, map[string]any{"error": e})
}

// code is the code of a refusal for programs.
func (e *refusal) code() galley.Code {
	switch e.status {
	case http.StatusNotFound:
		return galley.NotFound
	case http.StatusForbidden:
		return galley.PermissionDenied
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return galley.Unimplemented
	case http.StatusRequestTimeout:
		return galley.DeadlineExceeded
	case http.StatusRequestEntityTooLarge:
		return galley.ResourceExhausted
	default:
		return galley.InvalidArgument
	}
}

// setRetry says when to come again, if an error does.
func setRetry(w http.ResponseWriter, e *galley.Error) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
}
