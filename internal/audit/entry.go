package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"galley"
)

// domain begins the bytes of every entry, so that its digest is never that of
// something else.
const domain = "galley-audit/1"

// MaxText bounds each text of an entry, in bytes.
const MaxText = 4 << 10

// An Entry is one line of the log: who did what, when, to what, from where.
type Entry struct {
	Number  int64         `json:"number"` // from 1, without gaps
	At      time.Time     `json:"at"`     // to the nanosecond, years 1678 to 2262
	Actor   galley.Actor  `json:"actor"`
	Action  string        `json:"action"`  // "alias.promote"
	Subject string        `json:"subject"` // "news-topic:prod"
	Detail  string        `json:"detail,omitempty"`
	Address string        `json:"address,omitempty"` // HOST:PORT the request came from; empty for galley itself
	Token   string        `json:"token,omitempty"`   // id of the token that was shown
	Digest  galley.Digest `json:"digest"`            // of this entry and all before it
}

// Start is the digest of the log before its first entry.
const Start galley.Digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// Bounded returns the entry with texts that can be stored and sent anywhere:
// valid UTF-8 without NUL, of at most MaxText bytes.
func (e Entry) Bounded() Entry {
	actor := string(e.Actor)
	for _, s := range []*string{&actor, &e.Action, &e.Subject, &e.Detail, &e.Address, &e.Token} {
		*s = bounded(*s)
	}
	e.Actor = galley.Actor(actor)
	return e
}

func bounded(s string) string {
	const replacement = "\uFFFD"
	if len(s) > MaxText {
		s = s[:MaxText]
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, replacement), "\x00", replacement)
	for len(s) > MaxText { // replacements are longer than what they replace
		s = strings.ToValidUTF8(s[:MaxText], "")
	}
	return s
}

// Sum returns the digest that the entry has after one with the digest
// previous. Its own Digest does not enter.
func (e Entry) Sum(previous galley.Digest) galley.Digest {
	b := make([]byte, 0, 512)
	b = appendText(b, domain)
	b = append(b, rawDigest(previous)...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Number))
	b = binary.BigEndian.AppendUint64(b, uint64(e.At.UnixNano()))
	for _, s := range []string{string(e.Actor), e.Action, e.Subject, e.Detail, e.Address, e.Token} {
		b = appendText(b, s)
	}
	return galley.DigestBytes(b)
}

// Chained returns the entry as the next one after previous, with its digest.
func (e Entry) Chained(previous galley.Digest) Entry {
	e = e.Bounded()
	e.Digest = e.Sum(previous)
	return e
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...)
}

// rawDigest is the digest's bytes. Of a text that is no digest it is what no
// digest is: another number of bytes.
func rawDigest(d galley.Digest) []byte {
	raw, err := hex.DecodeString(d.Hex())
	if err != nil || len(raw) != sha256.Size {
		return []byte(d)
	}
	return raw
}
