package main

import (
	"errors"
	"io"
	"os"

	controlpb "galley/api/control/v1"

	"galley"
)

// pieceSize is how much of a file one message carries.
const pieceSize = 256 << 10

// upload sends a file in pieces, at least one. The server opens no path that
// a client names: the path is for messages only.
func upload(name, path string, send func(*controlpb.FilePiece) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fileError(path, err)
	}
	defer f.Close()
	buf := make([]byte, pieceSize)
	for first := true; ; first = false {
		n, err := io.ReadFull(f, buf)
		if n > 0 || first {
			if err := send(&controlpb.FilePiece{Name: name, Path: path, Data: buf[:n]}); err != nil {
				// The server has ended the stream: its answer says why.
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fileError(path, err)
		}
	}
}

// readFile reads a file of the user's that has at most so many bytes; what
// names it in the remedy: "a job file".
func readFile(path string, most int64, what string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	if int64(len(data)) > most {
		return nil, galley.Errorf(galley.InvalidArgument, path, "is too large").WithRemedy("%s has at most %d bytes", what, most)
	}
	return data, nil
}

// fileError says which file of the user's cannot be used.
func fileError(path string, err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	code := galley.InvalidArgument
	switch {
	case errors.Is(err, os.ErrNotExist):
		code = galley.NotFound
	case errors.Is(err, os.ErrPermission):
		code = galley.PermissionDenied
	}
	return galley.Errorf(code, path, "%w", err)
}
