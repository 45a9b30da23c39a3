package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"

	"galley"
)

// Read reads an archive of so many bytes and gives each file to take, which
// must read it to its end. What take has got is to be used only if Read
// returns no error: then the files are those of the manifest, and all of them.
func Read(ctx context.Context, r io.Reader, size int64, take func(f File, r io.Reader) error) (Manifest, error) {
	a := &archive{ctx: ctx, tar: tar.NewReader(r), room: size, seen: map[string]File{}}
	for {
		h, err := a.next()
		if err != nil {
			return Manifest{}, err
		}
		if h.Name == manifestName {
			return a.manifest(h)
		}
		if err := a.file(h, take); err != nil {
			return Manifest{}, err
		}
	}
}

// An archive is being read.
type archive struct {
	ctx  context.Context
	tar  *tar.Reader
	room int64 // bytes that files may still have: an archive is not compressed
	seen map[string]File
}

func refused(format string, args ...any) *galley.Error {
	return galley.Errorf(galley.InvalidArgument, "backup", format, args...).WithRemedy("give a file that galley backup wrote")
}

func damaged(format string, args ...any) *galley.Error {
	return galley.Errorf(galley.DataLoss, "backup", "the archive is damaged: "+format, args...).WithRemedy("restore another backup")
}

// next returns the next entry, which is a plain file of a size that fits.
func (a *archive) next() (*tar.Header, error) {
	if err := a.ctx.Err(); err != nil {
		return nil, err
	}
	h, err := a.tar.Next()
	switch {
	case errors.Is(err, io.EOF) && len(a.seen) == 0:
		return nil, refused("is empty")
	case errors.Is(err, io.EOF):
		return nil, damaged("it ends before its manifest")
	case err != nil && len(a.seen) == 0:
		return nil, refused("is no backup: %w", err)
	case err != nil:
		return nil, damaged("%w", err)
	case h.Typeflag != tar.TypeReg:
		return nil, refused("%q is not a file", galley.Clip(h.Name, 80))
	case h.Size < 0 || h.Size > a.room:
		return nil, refused("%q has more bytes than the archive: %d", galley.Clip(h.Name, 80), h.Size)
	}
	a.room -= h.Size
	return h, nil
}

func (a *archive) file(h *tar.Header, take func(File, io.Reader) error) error {
	if !allowed(h.Name, h.Size) {
		return refused("%q does not belong into a backup", galley.Clip(h.Name, 80))
	}
	if _, twice := a.seen[h.Name]; twice {
		return refused("%q occurs twice", h.Name)
	}
	sum := sha256.New()
	content := &counted{r: io.TeeReader(a.tar, sum)}
	f := File{Path: h.Name, Size: h.Size, Digest: Blob(h.Name)}
	err := take(f, content)
	if content.err != nil {
		return content.err
	}
	if err != nil {
		return err
	}
	if content.n != h.Size {
		return damaged("%q has %d of %d bytes", h.Name, content.n, h.Size)
	}
	if f.Digest = galley.SumDigest(sum); Blob(h.Name) != "" && Blob(h.Name) != f.Digest {
		return damaged("%q has other bytes than its name says", h.Name)
	}
	a.seen[h.Name] = f
	return nil
}

// manifest reads the manifest and holds the archive to it.
func (a *archive) manifest(h *tar.Header) (Manifest, error) {
	var m Manifest
	if h.Size > maxManifest {
		return m, refused("its manifest has %d bytes", h.Size)
	}
	d := json.NewDecoder(a.tar)
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Manifest{}, damaged("its manifest cannot be read: %w", err)
	}
	if m.Format != format {
		return Manifest{}, refused("has the format %q, not %q", galley.Clip(m.Format, 80), format).
			WithRemedy("restore it with the galley that wrote it: %s", galley.Clip(m.Galley, 80))
	}
	if _, err := galley.ParseDigest(string(m.Head)); err != nil || m.Entries < 0 {
		return Manifest{}, damaged("its manifest has no head of the audit log")
	}
	listed := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		switch got, there := a.seen[f.Path]; {
		case listed[f.Path]:
			return Manifest{}, damaged("its manifest has %q twice", galley.Clip(f.Path, 80))
		case !there:
			return Manifest{}, damaged("%q is missing", galley.Clip(f.Path, 80))
		case got != f:
			return Manifest{}, damaged("%q has other bytes than the manifest says", f.Path)
		}
		listed[f.Path] = true
	}
	for path := range a.seen {
		if !listed[path] {
			return Manifest{}, damaged("%q is not in its manifest", path)
		}
	}
	if !listed[Database] {
		return Manifest{}, damaged("it has no database")
	}
	switch _, err := a.tar.Next(); {
	case err == nil:
		return Manifest{}, refused("something follows the manifest")
	case !errors.Is(err, io.EOF):
		return Manifest{}, damaged("%w", err)
	}
	return m, nil
}

// A counted reader counts what was read and keeps the error of the archive
// apart from that of who takes it.
type counted struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = damaged("%w", err)
		c.err = err
	}
	return n, err
}
