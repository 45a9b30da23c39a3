package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	"galley"
	"galley/internal/durable"
)

const (
	blobFolder = "sha256"
	tempFolder = "tmp"
)

// MaxSize is the largest blob unless Options say otherwise.
const MaxSize = 64 << 30

// Options of a store.
type Options struct {
	MaxSize int64 // bytes of one blob; MaxSize if 0
}

// A Store is a folder of blobs. Its methods may be called at the same time;
// the folder should have one process that writes.
type Store struct {
	dir    string
	max    int64
	guard  guard
	sweeps sync.Mutex // one sweep at a time

	verified sync.Map // galley.Digest to stamp: what VerifiedPath has read
}

// Open opens the folder, which it makes if it is not there, and removes what
// writes left behind that were interrupted.
func Open(dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, durable.WriteError(dir, err)
	}
	s := &Store{dir: dir, max: o.MaxSize, guard: guard{held: map[galley.Digest]int{}}}
	if s.max == 0 {
		s.max = MaxSize
	}
	temp := filepath.Join(dir, tempFolder)
	if err := os.RemoveAll(temp); err != nil {
		return nil, durable.WriteError(temp, err)
	}
	for _, d := range []string{temp, filepath.Join(dir, blobFolder)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, durable.WriteError(d, err)
		}
	}
	return s, nil
}

// Path returns where the blob is, or would be. Its readers must not change
// the file.
func (s *Store) Path(d galley.Digest) string {
	hex := d.Hex()
	if len(hex) < 2 {
		hex = "--"
	}
	return filepath.Join(s.dir, blobFolder, hex[:2], hex)
}

// Put stores what r gives and returns its digest and size. It is done when
// the bytes are on the disk. The hold of ctx keeps them; see Hold.
func (s *Store) Put(ctx context.Context, r io.Reader) (galley.Digest, int64, error) {
	return s.put(ctx, r, "")
}

// PutExpect is Put for bytes whose digest is known. If they have another, the
// error is DataLoss, and nothing is stored. If the blob is there already, r
// is not read.
func (s *Store) PutExpect(ctx context.Context, d galley.Digest, r io.Reader) (int64, error) {
	size, err := s.Keep(ctx, d)
	if err == nil || galley.CodeOf(err) != galley.NotFound {
		return size, err
	}
	_, size, err = s.put(ctx, r, d)
	return size, err
}

// PutFile stores the file at path.
func (s *Store) PutFile(ctx context.Context, path string) (galley.Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, durable.ReadError(path, err)
	}
	defer f.Close()
	return s.Put(ctx, f)
}

func (s *Store) put(ctx context.Context, r io.Reader, expect galley.Digest) (galley.Digest, int64, error) {
	temp, err := os.CreateTemp(filepath.Join(s.dir, tempFolder), "put-*")
	if err != nil {
		return "", 0, durable.WriteError(s.dir, err)
	}
	d, size, err := s.fill(ctx, temp, r, expect)
	if err == nil {
		s.guard.keep(ctx, d)
		err = s.place(temp.Name(), d)
	}
	if err != nil {
		return "", 0, errors.Join(err, remove(temp.Name()))
	}
	return d, size, nil
}

// fill writes r to the temporary file, flushes and closes it.
func (s *Store) fill(ctx context.Context, temp *os.File, r io.Reader, expect galley.Digest) (galley.Digest, int64, error) {
	defer temp.Close() // after an error; the second close of a whole file does nothing
	h := sha256.New()
	source := &source{ctx: ctx, r: io.LimitReader(r, s.max+1)}
	size, err := io.Copy(io.MultiWriter(temp, h), source)
	switch {
	case source.err != nil:
		return "", 0, source.err
	case err != nil:
		return "", 0, durable.WriteError(s.dir, err)
	case size > s.max:
		return "", 0, galley.Errorf(galley.ResourceExhausted, "blob", "is larger than %d bytes", s.max)
	}
	d := galley.SumDigest(h)
	if expect != "" && d != expect {
		return "", 0, galley.Errorf(galley.DataLoss, string(expect), "the bytes that came have the digest %s", d.Short()).
			WithRemedy("send them again; they changed on the way or at their source")
	}
	for _, step := range []func() error{
		func() error { return temp.Chmod(0o400) },
		temp.Sync,
		temp.Close,
	} {
		if err := step(); err != nil {
			return "", 0, durable.WriteError(s.dir, err)
		}
	}
	return d, size, nil
}

// place moves a whole file to where its digest belongs.
func (s *Store) place(temp string, d galley.Digest) error {
	path := s.Path(d)
	folder := filepath.Dir(path)
	if err := os.Mkdir(folder, 0o700); err == nil {
		if err := durable.SyncFolder(filepath.Dir(folder)); err != nil {
			return durable.WriteError(folder, err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return durable.WriteError(folder, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return durable.WriteError(path, err)
	}
	if err := durable.SyncFolder(folder); err != nil {
		return durable.WriteError(folder, err)
	}
	return nil
}

// Stat returns the size of a blob.
func (s *Store) Stat(d galley.Digest) (int64, error) {
	if _, err := galley.ParseDigest(string(d)); err != nil {
		return 0, err
	}
	info, err := os.Stat(s.Path(d))
	if err != nil {
		return 0, missing(d, err)
	}
	return info.Size(), nil
}

// Open returns a blob's bytes and their number. The caller closes the file.
// It does not check them; see Verify.
func (s *Store) Open(d galley.Digest) (*os.File, int64, error) {
	if _, err := galley.ParseDigest(string(d)); err != nil {
		return nil, 0, err
	}
	f, err := os.Open(s.Path(d))
	if err != nil {
		return nil, 0, missing(d, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(missing(d, err), f.Close())
	}
	return f, info.Size(), nil
}

// OpenVerified is Open after Verify, on the same open file.
func (s *Store) OpenVerified(ctx context.Context, d galley.Digest) (*os.File, int64, error) {
	f, size, err := s.Open(d)
	if err != nil {
		return nil, 0, err
	}
	if err := verify(ctx, f, d); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, 0, errors.Join(missing(d, err), f.Close())
	}
	return f, size, nil
}

// Verify reads a blob and checks its digest. The error of a blob that is
// damaged is DataLoss.
func (s *Store) Verify(ctx context.Context, d galley.Digest) error {
	f, _, err := s.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	return verify(ctx, f, d)
}

// A stamp tells a file from one that took its place or was written since.
type stamp struct {
	size     int64
	modified time.Time
}

// VerifiedPath is Path after Verify, for readers by path. A file that it has
// verified before and that has not been written since is not read again.
func (s *Store) VerifiedPath(ctx context.Context, d galley.Digest) (string, error) {
	f, size, err := s.Open(d)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", missing(d, err)
	}
	now := stamp{size, info.ModTime()}
	if before, ok := s.verified.Load(d); ok && before == now {
		return s.Path(d), nil
	}
	if err := verify(ctx, f, d); err != nil {
		return "", err
	}
	s.verified.Store(d, now)
	return s.Path(d), nil
}

func verify(ctx context.Context, f *os.File, d galley.Digest) error {
	source := &source{ctx: ctx, r: f}
	got, _, err := galley.DigestReader(source)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return missing(d, err)
	case got != d:
		return damaged(d)
	}
	return nil
}

// A Blob is an entry of a list.
type Blob struct {
	Digest galley.Digest
	Size   int64
}

// List returns all blobs in the order of their digests. Files that are no
// blobs are passed over.
func (s *Store) List() iter.Seq2[Blob, error] {
	return func(yield func(Blob, error) bool) {
		root := filepath.Join(s.dir, blobFolder)
		folders, err := os.ReadDir(root)
		if err != nil {
			yield(Blob{}, durable.ReadError(root, err))
			return
		}
		for _, folder := range folders {
			files, err := os.ReadDir(filepath.Join(root, folder.Name()))
			if err != nil {
				yield(Blob{}, durable.ReadError(root, err))
				return
			}
			for _, file := range files {
				d, err := galley.ParseDigest("sha256:" + file.Name())
				if err != nil {
					continue
				}
				size, err := s.Stat(d)
				if galley.CodeOf(err) == galley.NotFound {
					continue // removed meanwhile
				}
				if !yield(Blob{d, size}, err) || err != nil {
					return
				}
			}
		}
	}
}

// A source is a reader that ends with its context and tells its own errors
// from those of the writer.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
