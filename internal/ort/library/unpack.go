package library

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// unpack writes one regular file of an archive (a wheel or a gzipped tar) to
// path. The member is found by its exact name and nothing else is written, so
// no name in the archive can lead anywhere.
func unpack(archive, member, path string) error {
	if strings.HasSuffix(archive, ".whl") {
		return unpackZip(archive, member, path)
	}
	return unpackTar(archive, member, path)
}

func unpackTar(archive, member, path string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	defer plain.Close()
	// Whatever an archive claims, no more than this is unpacked to look for
	// the member.
	r := tar.NewReader(io.LimitReader(plain, 4<<30))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the archive has no %s", member)
		}
		if err != nil {
			return fmt.Errorf("the archive is damaged: %w", err)
		}
		if strings.TrimPrefix(h.Name, "./") == member {
			return writeLibrary(r, h.FileInfo().Mode().IsRegular(), h.Size, member, path)
		}
	}
}

func unpackZip(archive, member, path string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	defer z.Close()
	for _, f := range z.File {
		if f.Name != member {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return fmt.Errorf("the archive is damaged: %w", err)
		}
		defer r.Close()
		return writeLibrary(r, f.Mode().IsRegular(), int64(min(f.UncompressedSize64, maxLibrary+1)), member, path)
	}
	return fmt.Errorf("the archive has no %s", member)
}

// writeLibrary copies a member that must be a regular file of bounded size.
func writeLibrary(r io.Reader, regular bool, size int64, member, path string) error {
	if !regular {
		return fmt.Errorf("%s in the archive is not a regular file", member)
	}
	if size > maxLibrary {
		return fmt.Errorf("%s in the archive is larger than %d MiB", member, maxLibrary>>20)
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	n, err := io.Copy(out, io.LimitReader(r, maxLibrary+1))
	if err != nil {
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	if n != size {
		return fmt.Errorf("%s in the archive has %d bytes, not the %d it claims", member, n, size)
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Close()
}
