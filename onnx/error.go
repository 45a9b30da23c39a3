package onnx

import (
	"strconv"

	"galley"
)

// maxQuoted bounds how much of an outside name goes into a message.
const maxQuoted = 120

// quote quotes a name from outside for a message, shortened if it is long.
func quote(s string) string {
	if len(s) > maxQuoted {
		s = s[:maxQuoted] + "..."
	}
	return strconv.Quote(s)
}

// printable is quote without the quotes.
func printable(s string) string {
	s = quote(s)
	return s[1 : len(s)-1]
}

// invalid is an error about a part of a model.
func invalid(subject, format string, args ...any) *galley.Error {
	return galley.Errorf(galley.InvalidArgument, subject, format, args...)
}
