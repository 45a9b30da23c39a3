package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codecs by their numbers in the format.
const (
	plainCodec  = 0
	snappyCodec = 1
	gzipCodec   = 2
	brotliCodec = 4
	zstdCodec   = 6
	lz4Codec    = 7 // blocks without a frame
)

var errUnpacks = errors.New("a page unpacks to more than it says")

// An unpacker unpacks pages. What it keeps between them belongs to one reader.
type unpacker struct{ zstd *zstd.Decoder }

// unpack unpacks a page into the space that it says it takes, and returns what
// it took: nothing is written beyond.
func (u *unpacker) unpack(codec int, page, into []byte) ([]byte, error) {
	switch codec {
	case snappyCodec:
		if n, err := snappy.DecodedLen(page); err != nil || n > len(into) {
			return nil, errors.Join(err, errUnpacks)
		}
		return snappy.Decode(into, page)
	case gzipCodec:
		r, err := gzip.NewReader(bytes.NewReader(page))
		if err != nil {
			return nil, err
		}
		return readWithin(r, into)
	case brotliCodec:
		return readWithin(brotli.NewReader(bytes.NewReader(page)), into)
	case zstdCodec:
		if u.zstd == nil {
			var err error
			u.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxMemory(MaxPage), zstd.WithDecodeAllCapLimit(true))
			if err != nil {
				return nil, err
			}
		}
		return u.zstd.DecodeAll(page, into[:0:len(into)])
	case lz4Codec:
		n, err := lz4.UncompressBlock(page, into)
		if err != nil {
			return nil, err
		}
		return into[:n], nil
	default:
		return nil, fmt.Errorf("the codec %d is not known here", codec)
	}
}

func (u *unpacker) close() {
	if u.zstd != nil {
		u.zstd.Close()
	}
}

// readWithin reads all of r, which must fit.
func readWithin(r io.Reader, into []byte) ([]byte, error) {
	n, err := io.ReadFull(r, into)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return into[:n], nil
	}
	if err != nil {
		return nil, err
	}
	var more [1]byte
	if n, err := io.ReadFull(r, more[:]); n > 0 {
		return nil, errUnpacks
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return into, nil
}
