package dataset

import (
	"encoding/binary"
	"os"
	"slices"
)

// A census counts texts that occur more than once, within splits and across
// them, in memory that does not grow with their number. It keeps 62 bits of
// each text's hash and two for its split, spread over buckets by the first
// byte; full pages of a bucket go to a temporary file, each with the place of
// the bucket's page before. Counting holds one bucket at a time: a 256th of
// the hashes. Two different texts share 62 bits about once in 10^5 datasets
// of ten million rows.
type census struct {
	dir     string
	file    *os.File // made when the first page is full
	end     int64
	buckets [256]bucket
}

type bucket struct {
	page []uint64
	last int64 // place of the last page written, -1 if none
}

// pageEntries are the hashes of a page; in the file it is preceded by the
// place of the page before.
const pageEntries = 255

func newCensus(dir string) *census {
	c := &census{dir: dir}
	for i := range c.buckets {
		c.buckets[i] = bucket{page: make([]uint64, 0, pageEntries), last: -1}
	}
	return c
}

var splitOrder = []Split{Train, Valid, Test}

func (c *census) add(hash uint64, split Split) error {
	b := &c.buckets[hash>>56]
	if len(b.page) == pageEntries {
		if err := c.spill(b); err != nil {
			return err
		}
	}
	b.page = append(b.page, hash&^3|uint64(slices.Index(splitOrder, split)))
	return nil
}

func (c *census) spill(b *bucket) error {
	if c.file == nil {
		f, err := os.CreateTemp(c.dir, "galley-census-*")
		if err != nil {
			return storageError("temporary file", err)
		}
		c.file = f
	}
	var raw [8 * (1 + pageEntries)]byte
	binary.LittleEndian.PutUint64(raw[:], uint64(b.last))
	for i, h := range b.page {
		binary.LittleEndian.PutUint64(raw[8*(1+i):], h)
	}
	if _, err := c.file.WriteAt(raw[:], c.end); err != nil {
		return storageError("temporary file", err)
	}
	b.last, b.page = c.end, b.page[:0]
	c.end += int64(len(raw))
	return nil
}

// count adds up duplicates within each split and leaks from train into the
// others.
func (c *census) count() (duplicates, leaks map[Split]int64, err error) {
	duplicates, leaks = map[Split]int64{}, map[Split]int64{}
	var hashes []uint64
	for i := range c.buckets {
		if hashes, err = c.load(hashes[:0], &c.buckets[i]); err != nil {
			return nil, nil, err
		}
		slices.Sort(hashes) // a text's entries come together, those of train first
		for from := 0; from < len(hashes); {
			var n [4]int64
			to := from
			for ; to < len(hashes) && hashes[to]&^3 == hashes[from]&^3; to++ {
				n[hashes[to]&3]++
			}
			for s, split := range splitOrder {
				duplicates[split] += max(n[s]-1, 0)
				if split != Train && n[0] > 0 {
					leaks[split] += n[s]
				}
			}
			from = to
		}
	}
	return duplicates, leaks, nil
}

// load appends the hashes of a bucket to dst.
func (c *census) load(dst []uint64, b *bucket) ([]uint64, error) {
	dst = append(dst, b.page...)
	var raw [8 * (1 + pageEntries)]byte
	for at := b.last; at >= 0; {
		if _, err := c.file.ReadAt(raw[:], at); err != nil {
			return nil, storageError("temporary file", err)
		}
		for i := range pageEntries {
			dst = append(dst, binary.LittleEndian.Uint64(raw[8*(1+i):]))
		}
		at = int64(binary.LittleEndian.Uint64(raw[:]))
	}
	return dst, nil
}

// close removes the temporary file.
func (c *census) close() error {
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	if removeErr := os.Remove(c.file.Name()); err == nil {
		err = removeErr
	}
	return storageError("temporary file", err)
}
