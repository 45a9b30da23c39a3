package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"galley"
	"galley/internal/durable"
	"galley/registry"
)

// materialise puts artifacts into a folder, as further names of their blobs,
// which are read-only.
func (c *Control) materialise(ctx context.Context, dir string, artifacts []registry.Artifact) error {
	if err := os.RemoveAll(dir); err != nil {
		return durable.WriteError(dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return durable.WriteError(dir, err)
	}
	for _, a := range artifacts {
		if !filepath.IsLocal(filepath.FromSlash(a.Path)) {
			return galley.Errorf(galley.DataLoss, a.Path, "is not a path inside its model")
		}
		path := filepath.Join(dir, filepath.FromSlash(a.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return durable.WriteError(path, err)
		}
		blob, err := c.blobs.VerifiedPath(ctx, a.Digest)
		if err != nil {
			return err
		}
		if err := os.Link(blob, path); err != nil {
			// The blobs may lie on another disk, or on one without links.
			if err := c.copyBlob(a.Digest, path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Control) copyBlob(d galley.Digest, path string) error {
	from, _, err := c.blobs.Open(d)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return durable.WriteError(path, err)
	}
	_, err = io.Copy(to, from)
	return durable.WriteError(path, errors.Join(err, to.Close()))
}

// collect stores the files of a folder as blobs.
func (c *Control) collect(ctx context.Context, dir string) ([]registry.Artifact, error) {
	var out []registry.Artifact
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return galley.Errorf(galley.InvalidArgument, d.Name(), "is not a file")
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		digest, size, err := c.blobs.PutFile(ctx, path)
		if err != nil {
			return err
		}
		out = append(out, registry.Artifact{Path: filepath.ToSlash(name), Digest: digest, Size: size})
		return nil
	})
	return out, durable.WriteError(dir, err)
}

// An upload is a model sent by a client: its files, whose list is itself a
// blob. The list's digest names the upload.
type upload struct {
	Format string              `json:"format"`
	Files  []registry.Artifact `json:"files"`
}

const uploadFormat = "galley-upload/1"

// maxUploadList bounds an upload's list of files.
const maxUploadList = 1 << 20

func (c *Control) putUpload(ctx context.Context, files []registry.Artifact) (galley.Digest, error) {
	data, err := json.Marshal(upload{uploadFormat, files})
	if err != nil {
		return "", err
	}
	digest, _, err := c.blobs.Put(ctx, strings.NewReader(string(data)))
	return digest, err
}

func (c *Control) upload(d galley.Digest) ([]registry.Artifact, error) {
	none := func() error {
		return galley.Errorf(galley.NotFound, string(d), "is neither a version nor an upload").
			WithRemedy("upload the model first; galley train and galley models import do so by themselves")
	}
	f, size, err := c.blobs.Open(d)
	if galley.CodeOf(err) == galley.NotFound || err == nil && size > maxUploadList {
		if err == nil {
			f.Close()
		}
		return nil, none()
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var u upload
	if err := json.NewDecoder(f).Decode(&u); err != nil || u.Format != uploadFormat {
		return nil, none()
	}
	return u.Files, nil
}

// modelFiles returns the files of a version, or else of an upload.
func (c *Control) modelFiles(ctx context.Context, d galley.Digest) ([]registry.Artifact, error) {
	v, err := c.store.Find(ctx, d)
	switch galley.CodeOf(err) {
	case "":
		return v.Artifacts, nil
	case galley.NotFound:
		return c.upload(d)
	default:
		return nil, err
	}
}

// metricsLine writes metrics in the order of their names.
func metricsLine(metrics map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		parts = append(parts, fmt.Sprintf("%s %.4f", name, metrics[name]))
	}
	return strings.Join(parts, ", ")
}
