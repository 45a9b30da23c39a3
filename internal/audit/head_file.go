package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"galley"
)

// maxHead bounds a written head, in bytes.
const maxHead = 4 << 10

const giveHead = "give the file that galley audit head or GET /v1/audit/head wrote"

// A headFile is a written head in either of its forms: the one that
// [SignedHead] has, and the one that the API over HTTP gives it, in which the
// digest has its field's name and the number of entries, of 64 bits, is a text.
type headFile struct {
	Format    string         `json:"format"`
	Entries   entryCount     `json:"entries"`
	Head      *galley.Digest `json:"head"`
	Digest    *galley.Digest `json:"digest"`
	Time      time.Time      `json:"time"`
	Key       []byte         `json:"key"`
	Signature []byte         `json:"signature"`
}

// An entryCount is a whole number, or a text that is one as it is printed.
type entryCount int64

// UnmarshalJSON reads either.
func (n *entryCount) UnmarshalJSON(data []byte) error {
	text := string(data)
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	count, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(count, 10) != text {
		return fmt.Errorf("entries is %s, not a whole number", galley.Clip(string(data), 40))
	}
	*n = entryCount(count)
	return nil
}

// ReadHead reads a head that was kept, in either form, and checks its
// signature.
func ReadHead(r io.Reader) (SignedHead, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxHead+1))
	if err != nil {
		return SignedHead{}, galley.Errorf(galley.Unavailable, "head", "cannot be read: %w", err)
	}
	h, err := parseHead(data)
	if err != nil {
		return SignedHead{}, galley.Errorf(galley.InvalidArgument, "head", "cannot be read: %w", err).WithRemedy(giveHead)
	}
	if err := h.Check(); err != nil {
		return SignedHead{}, err
	}
	return h, nil
}

func parseHead(data []byte) (SignedHead, error) {
	if len(data) > maxHead {
		return SignedHead{}, fmt.Errorf("it has more than %d bytes", maxHead)
	}
	var f headFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return SignedHead{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return SignedHead{}, errors.New("something follows the head")
	}
	h := SignedHead{Format: f.Format, Entries: int64(f.Entries), Time: f.Time, Key: f.Key, Signature: f.Signature}
	switch {
	case f.Head != nil && f.Digest != nil:
		return SignedHead{}, errors.New("it has a head and a digest, which are the same field of two forms")
	case f.Head != nil:
		h.Digest = *f.Head
	case f.Digest != nil:
		h.Digest = *f.Digest
	}
	return h, nil
}
