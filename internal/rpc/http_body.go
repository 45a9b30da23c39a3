package rpc

import (
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"galley"
)

// readBody reads a request's body whole: at most limit bytes, also of what a
// compressed one unfolds to.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	from, err := decompressed(r.Header.Get("Content-Encoding"), http.MaxBytesReader(nil, r.Body, limit))
	if err != nil {
		return nil, bodyError(r, err)
	}
	body, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err != nil {
		return nil, bodyError(r, err)
	}
	if int64(len(body)) > limit {
		return nil, tooLarge(limit)
	}
	return body, nil
}

// decompressed undoes a content encoding of HTTP's.
func decompressed(encoding string, from io.Reader) (io.Reader, error) {
	switch encoding {
	case "", "identity":
		return from, nil
	case "gzip":
		return gzip.NewReader(from)
	case "deflate": // HTTP's name for zlib's format
		return zlib.NewReader(from)
	default:
		return nil, &refusal{http.StatusUnsupportedMediaType, fmt.Sprintf("the body is compressed with %s; send it as it is, or with gzip or deflate", printable(encoding))}
	}
}

func tooLarge(limit int64) error {
	return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", limit)}
}

// errStalled is the error of a body that does not come.
var errStalled = &refusal{http.StatusRequestTimeout, "the body does not come"}

// bodyError words what made a body unreadable.
func bodyError(r *http.Request, err error) error {
	if own := (*refusal)(nil); errors.As(err, &own) {
		return own
	}
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return tooLarge(large.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errStalled
	}
	if ctxErr := r.Context().Err(); ctxErr != nil {
		return ctxErr
	}
	return galley.Errorf(galley.InvalidArgument, "body", "cannot be read to its end: %w", err)
}
