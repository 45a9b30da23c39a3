package audit

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"time"

	"galley"
)

// A Head stands for a log as it was: how many entries it had, and the digest
// of the last.
type Head struct {
	Entries int64
	Digest  galley.Digest // Start if there are no entries
}

// headFormat names what is signed and how a head is written.
const headFormat = "galley-audit-head/1"

// A SignedHead is a head with the time and the signature of who vouches for
// it, to be kept elsewhere. Its JSON is the file that galley audit head writes.
type SignedHead struct {
	Format    string            `json:"format"`
	Entries   int64             `json:"entries"`
	Digest    galley.Digest     `json:"head"`
	Time      time.Time         `json:"time"` // of the signing, UTC
	Key       ed25519.PublicKey `json:"key"`
	Signature []byte            `json:"signature"` // ed25519, over signed
}

// Head returns the head without its signature.
func (h SignedHead) Head() Head { return Head{h.Entries, h.Digest} }

// signed is the text that is signed.
func (h SignedHead) signed() []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n%s\n", headFormat, h.Entries, h.Digest, h.Time.UTC().Format(time.RFC3339Nano))
}

// Sign vouches for a head.
func Sign(h Head, at time.Time, key ed25519.PrivateKey) SignedHead {
	s := SignedHead{Format: headFormat, Entries: h.Entries, Digest: h.Digest, Time: at.UTC(), Key: key.Public().(ed25519.PublicKey)}
	s.Signature = ed25519.Sign(key, s.signed())
	return s
}

// Check reports whether the head was signed with the key that it names.
func (h SignedHead) Check() error {
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.InvalidArgument, "head", format, args...).
			WithRemedy(giveHead + ", unchanged")
	}
	switch _, err := galley.ParseDigest(string(h.Digest)); {
	case h.Format != headFormat:
		return wrong("is no head of an audit log: its format is %q, not %q", galley.Clip(h.Format, 40), headFormat)
	case h.Entries < 0:
		return wrong("has %d entries", h.Entries)
	case err != nil:
		return wrong("its digest is no digest: %w", err)
	case h.Entries == 0 && h.Digest != Start:
		return wrong("has no entries, and the digest of some")
	case len(h.Key) != ed25519.PublicKeySize:
		return wrong("its key has %d bytes, not %d", len(h.Key), ed25519.PublicKeySize)
	case !ed25519.Verify(h.Key, h.signed(), h.Signature):
		return wrong("its signature is wrong: the head has been changed")
	}
	return nil
}

// Encode writes the head as its file has it.
func (h SignedHead) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, "head", "cannot be written: %w", err)
	}
	return append(data, '\n'), nil
}
