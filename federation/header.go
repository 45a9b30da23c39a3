package federation

import (
	"crypto/ed25519"
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"galley"
)

// signedPrefix keeps signatures of updates apart from those of other things.
const signedPrefix = "galley federation update\n"

// A Header says whose an update is, what it was made from and under which
// agreement. The partner signs it.
type Header struct {
	Protocol     int                `json:"protocol"`
	Federation   string             `json:"federation"`
	Run          string             `json:"run"`
	Round        int                `json:"round"`
	Attempt      int                `json:"attempt"`
	Partner      string             `json:"partner"`
	Agreement    galley.Digest      `json:"agreement"`
	Base         galley.Digest      `json:"base"`   // of the weights that training began with
	Update       galley.Digest      `json:"update"` // of the update's bytes
	Rows         int64              `json:"rows"`   // as the agreement lets it be told
	Metrics      map[string]float64 `json:"metrics,omitempty"`
	Capabilities []Capability       `json:"capabilities,omitempty"` // that the update was made with
}

// A SignedHeader is a header with its partner's signature.
type SignedHeader struct {
	Header
	Signature []byte `json:"signature"`
}

// canonical returns the bytes that are signed: each text and list begins with
// its length, metrics go in the order of their names.
func (h Header) canonical() []byte {
	b := []byte(signedPrefix)
	number := func(n int64) { b = binary.LittleEndian.AppendUint64(b, uint64(n)) }
	text := func(s string) {
		number(int64(len(s)))
		b = append(b, s...)
	}
	number(int64(h.Protocol))
	text(h.Federation)
	text(h.Run)
	number(int64(h.Round))
	number(int64(h.Attempt))
	text(h.Partner)
	text(string(h.Agreement))
	text(string(h.Base))
	text(string(h.Update))
	number(h.Rows)
	number(int64(len(h.Metrics)))
	for _, name := range slices.Sorted(maps.Keys(h.Metrics)) {
		text(name)
		number(int64(math.Float64bits(h.Metrics[name])))
	}
	number(int64(len(h.Capabilities)))
	for _, c := range h.Capabilities {
		text(string(c))
	}
	return b
}

// Sign signs the header with the partner's key.
func Sign(h Header, key ed25519.PrivateKey) SignedHeader {
	return SignedHeader{h, ed25519.Sign(key, h.canonical())}
}

// Verify reports whether the holder of key signed the header as it stands.
func (h SignedHeader) Verify(key ed25519.PublicKey) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, h.canonical(), h.Signature)
}
