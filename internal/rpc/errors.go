package rpc

import (
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"galley"
	"galley/internal/strictyaml"
)

// domain is the domain of galley's google.rpc.ErrorInfo. Its reason is the
// error's code, its metadata are subject and remedy.
const domain = "galley"

// Bounds of a status: HTTP/2 carries it in a header.
const (
	maxStatusText = 2 << 10
	maxViolations = 20
)

var grpcCodes = map[galley.Code]codes.Code{
	galley.InvalidArgument:    codes.InvalidArgument,
	galley.NotFound:           codes.NotFound,
	galley.AlreadyExists:      codes.AlreadyExists,
	galley.FailedPrecondition: codes.FailedPrecondition,
	galley.Aborted:            codes.Aborted,
	galley.OutOfRange:         codes.OutOfRange,
	galley.ResourceExhausted:  codes.ResourceExhausted,
	galley.PermissionDenied:   codes.PermissionDenied,
	galley.Unauthenticated:    codes.Unauthenticated,
	galley.Unavailable:        codes.Unavailable,
	galley.Unimplemented:      codes.Unimplemented,
	galley.DeadlineExceeded:   codes.DeadlineExceeded,
	galley.Canceled:           codes.Canceled,
	galley.DataLoss:           codes.DataLoss,
	galley.Internal:           codes.Internal,
	galley.Unknown:            codes.Unknown,
}

var galleyCodes = func() map[codes.Code]galley.Code {
	m := make(map[codes.Code]galley.Code, len(grpcCodes))
	for g, c := range grpcCodes {
		m[c] = g
	}
	return m
}()

// statusOf turns an error into a gRPC status with google.rpc.ErrorInfo,
// RetryInfo if it is known when to try again, and BadRequest for the mistakes
// of a file. A status stays as it is; nil is nil.
// The message begins with the subject: most clients show it alone.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	e := galley.AsError(err)
	message := subjectPrefix(e.Subject) + e.Message
	if e.Code == galley.Unknown || e.Code == "" {
		// Not worded for users: it may name files of the server.
		message = "the server failed; its log says why"
	}
	code, ok := grpcCodes[e.Code]
	if !ok {
		code = codes.Unknown
	}
	s := status.New(code, text(message))
	info := &errdetails.ErrorInfo{Reason: string(e.Code), Domain: domain, Metadata: map[string]string{}}
	if e.Subject != "" {
		info.Metadata["subject"] = text(e.Subject)
	}
	if e.Remedy != "" {
		info.Metadata["remedy"] = text(e.Remedy)
	}
	detailed, err2 := s.WithDetails(info)
	if err2 != nil {
		return &failure{s, err}
	}
	if e.RetryAfter > 0 {
		if more, err2 := detailed.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}); err2 == nil {
			detailed = more
		}
	}
	var problems strictyaml.Problems
	if errors.As(err, &problems) {
		bad := &errdetails.BadRequest{}
		for _, p := range problems[:min(len(problems), maxViolations)] {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: text(p.Path), Description: text(p.String()),
			})
		}
		if more, err2 := detailed.WithDetails(bad); err2 == nil {
			detailed = more
		}
	}
	return &failure{detailed, err}
}

// subjectPrefix is what a status's message about a subject begins with.
func subjectPrefix(subject string) string {
	if subject == "" {
		return ""
	}
	return subject + ": "
}

// A failure is a status that keeps its cause for the server's own log.
type failure struct {
	status *status.Status
	cause  error
}

func (f *failure) Error() string              { return f.cause.Error() }
func (f *failure) Unwrap() error              { return f.cause }
func (f *failure) GRPCStatus() *status.Status { return f.status }

// text makes a text fit for a status: UTF-8 and bounded.
func text(s string) string {
	if len(s) > maxStatusText {
		s = s[:maxStatusText] + "…"
	}
	return utf8Text(s)
}

// utf8Text makes a text fit for a message, which must be UTF-8.
func utf8Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// FromStatus turns the error of a call back into what the server meant; nil
// is nil.
func FromStatus(err error) *galley.Error {
	if err == nil {
		return nil
	}
	var own *galley.Error
	if errors.As(err, &own) {
		return own
	}
	s, ok := status.FromError(err)
	if !ok {
		return galley.AsError(err)
	}
	e := &galley.Error{Code: galleyCodes[s.Code()], Message: s.Message(), Cause: err}
	for _, d := range s.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			e.RetryAfter = retry.GetRetryDelay().AsDuration()
		}
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != domain {
			continue
		}
		if code := galley.Code(info.GetReason()); grpcCodes[code] == s.Code() {
			e.Code = code
		}
		e.Subject, e.Remedy = info.GetMetadata()["subject"], info.GetMetadata()["remedy"]
		e.Message = strings.TrimPrefix(s.Message(), subjectPrefix(e.Subject))
	}
	return e
}
