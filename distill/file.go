package distill

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"

	"galley"
	"galley/internal/durable"
)

// A file of numbers is a magic, the digest of what they are of, their count,
// the numbers as float32 in little-endian order, and the SHA-256 of all before
// it. It is written beside its place and renamed: there whole, or not at all.
const (
	magic      = "GLYSOFT1"
	headerSize = len(magic) + sha256.Size + 8
)

func header(of galley.Digest, count int64) []byte {
	sum := sha256.Sum256([]byte(of))
	h := append([]byte(magic), sum[:]...)
	return binary.LittleEndian.AppendUint64(h, uint64(count))
}

// fileSize is the size of a file of so many numbers.
func fileSize(count int64) int64 { return int64(headerSize) + 4*count + sha256.Size }

// writeFile writes the numbers of which write gives one part after the other.
func writeFile(path string, of galley.Digest, count int64, write func(part func([]float32) error) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.Replace(path, 0o600, func(f *os.File) error {
		digest := sha256.New()
		out := io.MultiWriter(f, digest)
		if _, err := out.Write(header(of, count)); err != nil {
			return err
		}
		var buffer []byte
		err := write(func(numbers []float32) error {
			buffer = buffer[:0]
			for _, x := range numbers {
				buffer = binary.LittleEndian.AppendUint32(buffer, math.Float32bits(x))
			}
			_, err := out.Write(buffer)
			return err
		})
		if err != nil {
			return err
		}
		_, err = f.Write(digest.Sum(nil))
		return err
	})
}

var errDamaged = errors.New("is not what it was written as")

// openFile opens a file that is whole and of what it should be.
func openFile(path string, of galley.Digest, count int64) (_ *os.File, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != fileSize(count) {
		return nil, errDamaged
	}
	want := header(of, count)
	digest := sha256.New()
	got := make([]byte, len(want))
	in := io.TeeReader(f, digest)
	if _, err := io.ReadFull(in, got); err != nil {
		return nil, err
	}
	if !bytes.Equal(got, want) {
		return nil, errDamaged
	}
	if _, err := io.CopyN(io.Discard, in, 4*count); err != nil {
		return nil, err
	}
	sum := make([]byte, sha256.Size)
	if _, err := io.ReadFull(f, sum); err != nil {
		return nil, err
	}
	if !bytes.Equal(sum, digest.Sum(nil)) {
		return nil, errDamaged
	}
	return f, nil
}

// readAt reads the numbers from the first'th on.
func readAt(f *os.File, dst []float32, first int64, buffer []byte) ([]byte, error) {
	if cap(buffer) < 4*len(dst) {
		buffer = make([]byte, 4*len(dst))
	}
	buffer = buffer[:4*len(dst)]
	if _, err := f.ReadAt(buffer, int64(headerSize)+4*first); err != nil {
		return buffer, galley.Errorf(galley.DataLoss, f.Name(), "cannot be read: %w", err)
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(buffer[4*i:]))
	}
	return buffer, nil
}
