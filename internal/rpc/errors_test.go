package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"galley"
	"galley/internal/strictyaml"
)

// What the server says arrives at the client, by code, subject and remedy.
func TestErrorsRoundTrip(t *testing.T) {
	for code, want := range grpcCodes {
		e := galley.Errorf(code, "news-topic@3", "is wrong").WithRemedy("do better").WithRetry(1500 * time.Millisecond)
		err := statusOf(fmt.Errorf("wrapped: %w", e))
		if status.Code(err) != want {
			t.Errorf("%s became %s", code, status.Code(err))
		}
		// As it comes over the wire: without the Go value behind it.
		back := FromStatus(status.Convert(err).Err())
		if back.Code != code || back.Subject != e.Subject || back.Remedy != e.Remedy || back.RetryAfter != e.RetryAfter {
			t.Errorf("%s came back as %+v", code, back)
		}
		if code != galley.Unknown && back.Message != e.Message {
			t.Errorf("%s: message %q", code, back.Message)
		}
	}
}

func TestStatusOf(t *testing.T) {
	if statusOf(nil) != nil || FromStatus(nil) != nil {
		t.Error("nil is no error")
	}
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{context.Canceled, codes.Canceled, "context canceled"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "context deadline exceeded"},
		{errors.New("open /secret/file: no"), codes.Unknown, "the server failed; its log says why"},
		{status.Error(codes.NotFound, "as it is"), codes.NotFound, "as it is"},
		{galley.Errorf(galley.InvalidArgument, "a\xff", "%s", strings.Repeat("x", 1<<20)), codes.InvalidArgument, "a\uFFFD: " + strings.Repeat("x", maxStatusText-len("a\xff: ")) + "…"},
	} {
		s := status.Convert(statusOf(c.err))
		if s.Code() != c.code || s.Message() != c.text {
			t.Errorf("%v became %s %.100q", c.err, s.Code(), s.Message())
		}
	}
	if e := FromStatus(status.Error(codes.Unavailable, "no connection")); e.Code != galley.Unavailable || e.Message != "no connection" {
		t.Errorf("%+v", e)
	}
}

func TestProblemsAreViolations(t *testing.T) {
	problems := strictyaml.Problems{{Line: 3, Column: 4, Path: "recipe.epoch", Message: "is not a field here", Remedy: `did you mean "epochs"?`}}
	s := status.Convert(statusOf(problems.AsError("job file")))
	var got []string
	for _, d := range s.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				got = append(got, v.GetField()+": "+v.GetDescription())
			}
		}
	}
	want := `recipe.epoch: line 3, column 4: recipe.epoch: is not a field here — did you mean "epochs"?`
	if len(got) != 1 || got[0] != want {
		t.Errorf("%q", got)
	}
}
