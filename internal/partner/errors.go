package partner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"galley"
)

// domain is that of galley's google.rpc.ErrorInfo: its reason is the error's
// code, its metadata are subject and remedy.
const domain = "galley"

var codesOf = map[codes.Code]galley.Code{
	codes.InvalidArgument: galley.InvalidArgument, codes.NotFound: galley.NotFound, codes.AlreadyExists: galley.AlreadyExists,
	codes.FailedPrecondition: galley.FailedPrecondition, codes.Aborted: galley.Aborted, codes.OutOfRange: galley.OutOfRange,
	codes.ResourceExhausted: galley.ResourceExhausted, codes.PermissionDenied: galley.PermissionDenied,
	codes.Unauthenticated: galley.Unauthenticated, codes.Unavailable: galley.Unavailable, codes.Unimplemented: galley.Unimplemented,
	codes.DeadlineExceeded: galley.DeadlineExceeded, codes.Canceled: galley.Canceled, codes.DataLoss: galley.DataLoss, codes.Internal: galley.Internal,
}

// maxSaid bounds what is repeated of a coordinator's words.
const maxSaid = 500

// explain turns the error of a call into one for the partner's administrator.
func (l *link) explain(err error) error {
	var own *galley.Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return galley.AsError(err)
	}
	if s.Code() == codes.Unavailable {
		if wrong := l.wrong.Load(); wrong != nil {
			return wrong
		}
		if err := l.refusal(s.Message()); err != nil {
			return err
		}
	}
	e := &galley.Error{Code: codesOf[s.Code()], Subject: l.address, Message: printable(s.Message()), Cause: err}
	if e.Code == "" {
		e.Code = galley.Unknown
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			subject := info.GetMetadata()["subject"]
			e.Message = printable(strings.TrimPrefix(s.Message(), subject+": "))
			if subject != "" {
				e.Subject = printable(subject)
			}
			e.Remedy = printable(info.GetMetadata()["remedy"])
		}
	}
	if s.Code() == codes.Unavailable && e.Remedy == "" {
		e.Message = "the coordinator cannot be reached: " + e.Message
		e.Remedy = "look at the address and at the network; the agent tries again by itself"
	}
	return e
}

// refusal is the error of a coordinator that does not take the agent's
// certificate, nil if the words are of something else. A TLS server says no more
// than that; what the agent knows of its own certificate is added.
func (l *link) refusal(message string) error {
	_, alert, ok := strings.Cut(message, "remote error: tls: ")
	if !ok && slices.ContainsFunc([]string{"server preface", "connection reset by peer", "broken pipe"}, func(part string) bool { return strings.Contains(message, part) }) {
		// The alert is lost if the connection is gone before it is read.
		return galley.Errorf(galley.Unavailable, l.address, "what answers there ends the connection before a word, as a coordinator does that does not take a certificate").
			WithRemedy("ask the coordinator's operator whether %s, whose fingerprint is %s, is enrolled and not revoked", certificateFile, l.identity.Fingerprint().Short())
	}
	if !ok {
		return nil
	}
	why := "it is not enrolled there, was revoked, or has expired"
	switch {
	case strings.HasPrefix(alert, "expired certificate"):
		why = "it has expired"
	case strings.HasPrefix(alert, "revoked certificate"):
		why = "it was revoked"
	case strings.HasPrefix(alert, "unknown certificate"):
		why = "it is not enrolled there"
	case !strings.Contains(alert, "certificate") && !strings.HasPrefix(alert, "access denied"):
		return nil
	}
	remedy := fmt.Sprintf("ask the coordinator's operator to enrol %s, whose fingerprint is %s", certificateFile, l.identity.Fingerprint().Short())
	if c := l.identity.Certificate; !l.now().Before(c.NotAfter) {
		why = "it has expired, at " + c.NotAfter.UTC().Format(time.RFC3339)
		remedy = "galley partner keygen --rotate makes the next one; the coordinator's operator enrols it with --replace"
	}
	return galley.Errorf(galley.PermissionDenied, l.address, "the coordinator refuses the certificate of %s: %s", l.identity.Partner, why).
		WithRemedy("%s", remedy)
}

// wrongServer is the error of a server that is not the one that was joined.
func wrongServer(address string, got galley.Digest, why string) *galley.Error {
	return galley.Errorf(galley.Unauthenticated, address, "what answers there is not the coordinator that was joined: its certificate, %s, %s", got.Short(), why).
		WithRemedy("nothing was sent; ask the coordinator's operator whether the server's certificate has changed, and join again with the new one")
}

// refuses reports whether the coordinator knows the caller and says no, or does
// not want to know it: trying again changes nothing before somebody acts.
func refuses(err error) bool {
	switch galley.CodeOf(err) {
	case galley.PermissionDenied, galley.Unauthenticated, galley.InvalidArgument, galley.Unimplemented:
		return true
	}
	return false
}

// passes reports whether a call that failed may succeed when it is tried again.
// A disk that is full is no matter of the call.
func passes(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch galley.CodeOf(err) {
	case galley.Unavailable:
		return true
	case galley.Aborted, galley.ResourceExhausted, galley.Canceled, galley.DeadlineExceeded, galley.Internal, galley.Unknown:
		return remote(err)
	}
	return false
}

// remote reports whether an error is the coordinator's word.
func remote(err error) bool {
	_, ok := status.FromError(err)
	return ok
}

// printable bounds a coordinator's words and keeps them on one line of a log.
func printable(s string) string {
	return galley.Clip(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " ")), maxSaid)
}
