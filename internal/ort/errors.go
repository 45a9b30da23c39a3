package ort

import "galley"

// statusCode maps the runtime's codes, which are numbered in its interface.
func statusCode(code int) galley.Code {
	switch code {
	case 2, 7, 10: // invalid argument, protocol buffer, graph
		return galley.InvalidArgument
	case 3, 4, 14: // no such file, no model, not found
		return galley.NotFound
	case 9: // not implemented
		return galley.Unimplemented
	case 12: // loading was cancelled
		return galley.Canceled
	default:
		return galley.Internal
	}
}

// interrupted is the error of a call whose context ended.
func interrupted(subject string, err error) error {
	return &galley.Error{Code: galley.CodeOf(err), Subject: subject, Message: "interrupted: " + err.Error(), Cause: err}
}
