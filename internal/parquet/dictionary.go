package parquet

import (
	"errors"
	"fmt"
)

// A dictionary has the values that a column's pages name by their numbers.
type dictionary struct {
	column  Column
	count   int
	data    []byte
	offsets []uint32 // of values of any length
	held    int64    // bytes that it takes
}

// checkDictionary holds that a dictionary's page may have so many values:
// those of any length take four bytes each at least.
func checkDictionary(c Column, encoding, count int, data []byte) error {
	if encoding != plainEncoding && encoding != oldDictionary {
		return fmt.Errorf("a dictionary has the encoding %d", encoding)
	}
	size := uint64(4)
	switch c.Kind {
	case Boolean:
		return errors.New("a dictionary of booleans")
	case Int96, Float, Double, Bytes:
	default:
		size = uint64(c.size())
	}
	if uint64(count)*size > uint64(len(data)) {
		return errShort
	}
	return nil
}

// newDictionary finds the values of a dictionary's page, which was checked.
func newDictionary(c Column, count int, data []byte) (*dictionary, error) {
	d := &dictionary{column: c, count: count, data: data}
	if c.Kind != Bytes {
		return d, nil
	}
	d.offsets = make([]uint32, count)
	values := plainBytes{data}
	var v Value
	for i := range d.offsets {
		d.offsets[i] = uint32(len(data) - len(values.data))
		if err := values.next(&v); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *dictionary) value(i uint32, v *Value) error {
	if int64(i) >= int64(d.count) {
		return fmt.Errorf("the value %d of %d in the dictionary", i, d.count)
	}
	if d.offsets != nil {
		values := plainBytes{d.data[d.offsets[i]:]}
		return values.next(v)
	}
	size := d.column.size()
	*v = fixedValue(d.column.Kind, d.data[int(i)*size:(int(i)+1)*size])
	return nil
}

// indexes name values of a dictionary.
type indexes struct {
	numbers *hybrid
	values  *dictionary
}

func newIndexes(data []byte, d *dictionary) (decoder, error) {
	if d == nil {
		return nil, errors.New("a page needs a dictionary, and there is none")
	}
	if len(data) == 0 {
		return &indexes{&hybrid{}, d}, nil // of nulls alone
	}
	numbers, err := newHybrid(data[1:], int(data[0]))
	return &indexes{numbers, d}, err
}

func (x *indexes) next(v *Value) error {
	n, err := x.numbers.next()
	if err != nil {
		return err
	}
	return x.values.value(n, v)
}
