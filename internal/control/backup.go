package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"galley"
	"galley/internal/audit"
	"galley/internal/backup"
	"galley/internal/durable"
	"galley/internal/store"
	"galley/internal/store/sqlite"
	"galley/internal/strictyaml"
)

// A BackupSummary says what a backup holds.
type BackupSummary struct {
	Files   int
	Bytes   int64
	Audit   audit.Head // of the log in the backup
	Created time.Time
	Damaged []galley.Digest // blobs that cannot be read; the backup is without them
}

// Backup writes the state, as of one moment, and the blobs that it names as an
// archive, while everything goes on. Blobs that cannot be read are left out
// and named.
func (c *Control) Backup(ctx context.Context, by galley.Actor, w io.Writer) (BackupSummary, error) {
	// What the snapshot names must be there until it is in the archive.
	thaw := c.blobs.Freeze()
	defer thaw()
	dir, err := os.MkdirTemp(c.temp(), "backup-*")
	if err != nil {
		return BackupSummary{}, durable.WriteError(c.temp(), err)
	}
	defer os.RemoveAll(dir)
	s := BackupSummary{Created: c.now()}
	// Who takes all there is leaves a trace, in the backup too.
	if err := c.store.Record(ctx, "home", store.Commit{By: by, At: s.Created, Action: "home.backup"}); err != nil {
		return s, err
	}
	if _, err := c.AuditHead(ctx); err != nil { // makes the key if there is none
		return s, err
	}
	if err := c.store.Snapshot(ctx, dir); err != nil {
		return s, err
	}
	named := map[galley.Digest]bool{}
	if s.Audit, err = c.readSnapshot(ctx, dir, named); err != nil {
		return s, err
	}
	archive := backup.NewWriter(w)
	err = archiveFile(archive, backup.Database, filepath.Join(dir, sqlite.DatabaseFile))
	if err == nil {
		err = archiveFile(archive, backup.AuditKey, filepath.Join(c.home, auditKeyFile))
	}
	if err == nil {
		err = c.archiveTenants(archive)
	}
	if err == nil {
		err = c.archiveIdentity(archive)
	}
	if err != nil {
		return s, err
	}
	for _, d := range slices.Sorted(maps.Keys(named)) {
		switch err := c.archiveBlob(ctx, archive, d); galley.CodeOf(err) {
		case "":
		case galley.NotFound: // a digest of something else
		case galley.DataLoss:
			s.Damaged = append(s.Damaged, d)
		default:
			return s, err
		}
	}
	s.Files, s.Bytes = archive.Files()
	return s, archive.Close(backup.Manifest{Galley: c.revision, Created: s.Created, Entries: s.Audit.Entries, Head: s.Audit.Digest})
}

// readSnapshot finds what a snapshot names, and where its audit log is.
func (c *Control) readSnapshot(ctx context.Context, dir string, named map[galley.Digest]bool) (head audit.Head, err error) {
	snapshot, err := sqlite.Open(ctx, dir)
	if err != nil {
		return head, err
	}
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	if head, err = snapshot.AuditHead(ctx); err != nil {
		return head, err
	}
	return head, c.named(ctx, snapshot, func(d galley.Digest) { named[d] = true })
}

func archiveFile(archive *backup.Writer, path, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return durable.ReadError(from, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return durable.ReadError(from, err)
	}
	return archive.Add(path, info.Size(), f)
}

// archiveTenants adds the file that people write, if they did. It is read
// first: they may be writing it now.
func (c *Control) archiveTenants(archive *backup.Writer) error {
	path := filepath.Join(c.home, tenantsFile)
	data, err := readTenantsFile(path)
	if err != nil || data == nil {
		return err
	}
	if len(data) > strictyaml.MaxBytes {
		return galley.Errorf(galley.FailedPrecondition, path, "is larger than %d bytes", strictyaml.MaxBytes).
			WithRemedy("correct it; a server would not start with it")
	}
	return archive.Add(backup.Tenants, int64(len(data)), bytes.NewReader(data))
}

// archiveIdentity adds what partners' agents know the server by, if it made that:
// each of them has pinned it.
func (c *Control) archiveIdentity(archive *backup.Writer) error {
	if _, err := os.Stat(filepath.Join(c.home, filepath.FromSlash(backup.ServerCertificate))); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(
		archiveFile(archive, backup.ServerKey, filepath.Join(c.home, filepath.FromSlash(backup.ServerKey))),
		archiveFile(archive, backup.ServerCertificate, filepath.Join(c.home, filepath.FromSlash(backup.ServerCertificate))),
	)
}

// archiveBlob checks a blob before it adds it: an archive has no way back.
func (c *Control) archiveBlob(ctx context.Context, archive *backup.Writer, d galley.Digest) error {
	f, size, err := c.blobs.OpenVerified(ctx, d)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := archive.Add(backup.BlobPath(d), size, f); err != nil {
		if galley.CodeOf(err) == galley.DeadlineExceeded { // it says so itself
			return err
		}
		// Of what is written to, not of the blob: it ends the backup.
		return galley.Errorf(galley.Unavailable, "backup", "cannot be written: %w", err)
	}
	return nil
}
