package experiment

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"galley"
)

// MaxKey bounds a request key, in bytes.
const MaxKey = 256

// CheckKey holds a request key to its bound.
func CheckKey(key string) error {
	if len(key) > MaxKey {
		return galley.Errorf(galley.InvalidArgument, "request_key", "has %d bytes", len(key)).
			WithRemedy("send at most %d: a reader's or an article's id, or a digest of it", MaxKey)
	}
	return nil
}

// PlaceOf returns where a request key lies among all keys: a number that looks
// uniform, the same for the same salt and key.
func PlaceOf(salt []byte, key string) uint64 {
	var text [SaltSize + MaxKey]byte
	n := copy(text[:SaltSize], salt)
	n += copy(text[n:], key)
	sum := sha256.Sum256(text[:n])
	return binary.BigEndian.Uint64(sum[:])
}

// Arm returns the arm that a place belongs to: the treatment has the lowest
// places. So when its share grows, keys move from control to it and none
// back, and no more than the difference of the shares.
func (s Stage) Arm(place uint64) Arm {
	if part, _ := bits.Mul64(place, Parts); part < uint64(s.Treatment) {
		return Treatment
	}
	return Control
}
