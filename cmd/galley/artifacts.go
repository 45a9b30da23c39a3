package main

import (
	"context"
	"io/fs"
	"os"

	"galley/internal/blob"
	"galley/registry"
)

// artifacts is a version's files as a file system over the blobs.
type artifacts struct {
	blobs   *blob.Store
	version registry.Version
}

// Open implements fs.FS.
func (a artifacts) Open(name string) (fs.File, error) {
	artifact, ok := a.version.Artifact(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	path, err := a.blobs.VerifiedPath(context.Background(), artifact.Digest)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unreadable(a.version, err)}
	}
	return os.Open(path)
}
