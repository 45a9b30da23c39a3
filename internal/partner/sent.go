package partner

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/durable"
)

// sentFile is the record of what left, for the partner's auditors: a line of
// JSON each, which is only ever added to.
const sentFile = "sent.jsonl"

// What a Sent is about.
const (
	SentAgreement = "agreement" // the agreement's file was handed over
	SentUpdate    = "update"    // an update's header and bytes begin to leave
	SentDecline   = "decline"   // that the agent takes no part, and Why, word for word
	GotAnswer     = "answer"    // what the coordinator made of an update
)

// A Sent is an entry of the record. What leaves is written down before it
// leaves: a line of which no byte went out is possible, the reverse is not.
type Sent struct {
	At         time.Time          `json:"at"`
	What       string             `json:"what"`
	Federation string             `json:"federation"`
	Run        string             `json:"run,omitempty"`
	Round      int                `json:"round,omitempty"`
	Attempt    int                `json:"attempt,omitempty"`
	Digest     galley.Digest      `json:"digest,omitempty"` // of the agreement, or of the update's bytes
	Bytes      int64              `json:"bytes,omitempty"`
	Rows       int64              `json:"rows,omitempty"` // as they were told
	Metrics    map[string]float64 `json:"metrics,omitempty"`
	Why        string             `json:"why,omitempty"`
	Answer     string             `json:"answer,omitempty"` // accepted, or the reason of a refusal
}

func sentRound(what string, o federation.Offer, at time.Time) Sent {
	return Sent{At: at.UTC(), What: what, Federation: o.Federation, Run: o.Run, Round: o.Round, Attempt: o.Attempt}
}

// note adds an entry to the record, durably.
func (h *home) note(s Sent) error {
	line, err := json.Marshal(s)
	if err != nil {
		return galley.Errorf(galley.Internal, sentFile, "%w", err)
	}
	path := h.path(sentFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return durable.WriteError(path, err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		err = durable.SyncFolder(h.dir)
	}
	if err == nil && info.Size() > 0 {
		// A kill may have cut the last line off; it stays as it is, on its own.
		last := make([]byte, 1)
		if _, err = f.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err == nil && s.What != GotAnswer { // nothing left with it
		err = f.Sync()
	}
	return durable.WriteError(path, errors.Join(err, f.Close()))
}

// maxTail bounds what is read of the record for a status.
const maxTail = 1 << 20

// lastSent returns the last entries of the record of a home, the newest last.
func lastSent(dir string, most int) ([]Sent, error) {
	path := (&home{dir: dir}).path(sentFile)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-maxTail), maxTail))
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	var all []Sent
	for line := range bytes.Lines(data) {
		var s Sent
		if json.Unmarshal(line, &s) == nil && s.What != "" { // not one that was cut off
			all = append(all, s)
		}
	}
	return all[max(0, len(all)-most):], nil
}
