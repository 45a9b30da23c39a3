package control

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"galley"
	"galley/internal/audit"
	"galley/internal/durable"
	"galley/internal/store"
)

// auditKeyFile holds the key that signs heads of the audit log, in the home.
const auditKeyFile = "audit.key"

// maxKeyFile bounds the key's file, in bytes.
const maxKeyFile = 4 << 10

// A signer signs heads with the home's key.
type signer struct {
	mu  sync.Mutex
	key ed25519.PrivateKey // nil before its first use
}

// AuditHead signs what the audit log has come to.
func (c *Control) AuditHead(ctx context.Context) (audit.SignedHead, error) {
	head, err := c.store.AuditHead(ctx)
	if err != nil {
		return audit.SignedHead{}, err
	}
	return c.sign(head)
}

func (c *Control) sign(head audit.Head) (audit.SignedHead, error) {
	c.signer.mu.Lock()
	defer c.signer.mu.Unlock()
	if c.signer.key == nil {
		key, err := loadAuditKey(filepath.Join(c.home, auditKeyFile))
		if err != nil {
			return audit.SignedHead{}, err
		}
		c.signer.key = key
	}
	return audit.Sign(head, c.now(), c.signer.key), nil
}

// loadAuditKey reads the key, or makes one that only this user may read.
func loadAuditKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeAuditKey(path)
	case err != nil:
		return nil, durable.ReadError(path, err)
	case info.Mode().Perm()&0o077 != 0:
		return nil, galley.Errorf(galley.FailedPrecondition, path, "others may read the key that signs heads: its mode is %v", info.Mode().Perm()).
			WithRemedy("chmod 600 %s; if others may have read it, remove it instead: a new one is made", path)
	case info.Size() > maxKeyFile:
		return nil, galley.Errorf(galley.DataLoss, path, "is no key: it has %d bytes", info.Size()).
			WithRemedy("restore it from a backup, or remove it: a new one is made")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	return audit.DecodeKey(data)
}

func makeAuditKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, galley.Errorf(galley.Internal, "audit key", "cannot be made: %w", err)
	}
	data, err := audit.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, durable.WriteError(path, durable.Write(path, 0o600, data))
}

// An AuditSelection is entries of the audit log.
type AuditSelection struct {
	After, Until   int64 // numbers; Until 0 for all that are there
	Actor, Subject string
	Last           int // only that many, the newest; 0 for all
}

// AuditEntries gives entries of the audit log in their order.
func (c *Control) AuditEntries(ctx context.Context, s AuditSelection, give func(audit.Entry) error) error {
	if s.After < 0 || s.Until < 0 || s.Last < 0 || s.Last > store.MaxList {
		return galley.Errorf(galley.OutOfRange, "audit", "after, until and last are not negative, and last is at most %d", store.MaxList)
	}
	q := store.AuditQuery{After: s.After, Actor: galley.Actor(s.Actor), Subject: s.Subject, Limit: store.MaxList}
	if s.Last > 0 {
		q.Limit, q.Newest = s.Last, true
	}
	for {
		some, err := c.store.Audit(ctx, q)
		if err != nil {
			return err
		}
		for _, e := range some {
			if s.Until > 0 && e.Number > s.Until {
				return nil
			}
			if err := give(e); err != nil {
				return err
			}
			q.After = e.Number
		}
		if len(some) < q.Limit || q.Newest {
			return nil
		}
	}
}
