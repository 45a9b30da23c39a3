package galley

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Code classifies an error; programs act on codes, never on texts. The
// names are gRPC's.
type Code string

// The codes galley uses.
const (
	InvalidArgument    Code = "INVALID_ARGUMENT"
	NotFound           Code = "NOT_FOUND"
	AlreadyExists      Code = "ALREADY_EXISTS"
	FailedPrecondition Code = "FAILED_PRECONDITION"
	Aborted            Code = "ABORTED"
	OutOfRange         Code = "OUT_OF_RANGE"
	ResourceExhausted  Code = "RESOURCE_EXHAUSTED"
	PermissionDenied   Code = "PERMISSION_DENIED"
	Unauthenticated    Code = "UNAUTHENTICATED"
	Unavailable        Code = "UNAVAILABLE"
	Unimplemented      Code = "UNIMPLEMENTED"
	DeadlineExceeded   Code = "DEADLINE_EXCEEDED"
	Canceled           Code = "CANCELLED"
	DataLoss           Code = "DATA_LOSS"
	Internal           Code = "INTERNAL"
	Unknown            Code = "UNKNOWN"
)

// An Error says what went wrong with which subject, and what to do next.
type Error struct {
	Code    Code   `json:"code"`
	Subject string `json:"subject"` // the field, file, model or job it is about
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"` // what the reader can do next
	Cause   error  `json:"-"`                // for operators; not shown to users of the API

	RetryAfter time.Duration `json:"-"` // when the same request may succeed; 0 if that is not known
}

// Errorf makes an error. A %w verb in format sets the cause.
func Errorf(code Code, subject, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Subject: subject, Message: err.Error(), Cause: errors.Unwrap(err)}
}

// WithRemedy adds what to do next and returns e.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

// WithRetry says when the same request may succeed, and returns e.
func (e *Error) WithRetry(after time.Duration) *Error {
	e.RetryAfter = after
	return e
}

// Error returns "subject: message — remedy".
func (e *Error) Error() string {
	s := e.Message
	if e.Subject != "" {
		s = e.Subject + ": " + s
	}
	if e.Remedy != "" {
		s += " — " + e.Remedy
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// CodeOf returns the code of the first Error in err's chain. Context errors
// have their codes; nil has none; anything else is Unknown.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	default:
		return Unknown
	}
}

// AsError returns the first Error in err's chain, or wraps err in one with
// code Unknown (or the context's code).
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if err == nil {
		return nil
	}
	return &Error{Code: CodeOf(err), Message: err.Error(), Cause: err}
}
