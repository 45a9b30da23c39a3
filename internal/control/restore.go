package control

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"galley"
	"galley/internal/audit"
	"galley/internal/backup"
	"galley/internal/blob"
	"galley/internal/durable"
	"galley/internal/store"
	"galley/internal/store/sqlite"
)

// blobFolder is where a home has its blobs.
const blobFolder = "blobs"

// A Restore says what to restore where.
type Restore struct {
	Home    string
	Replace bool // what the home has now is moved aside
	By      galley.Actor
	Clock   func() time.Time
}

// Restored says what a home has come to.
type Restored struct {
	Files    int
	Bytes    int64
	Audit    audit.Head // as of the backup
	Created  time.Time  // of the backup
	Replaced string     // folder with what was there before, "" if nothing was
	Missing  []string   // versions that lack files, as they did when they were backed up
}

// Run reads an archive of so many bytes and makes it the home. Nothing of the
// home changes before the whole archive is there, checked and flushed; the
// home must be nobody's meanwhile.
func (r Restore) Run(ctx context.Context, archive io.Reader, size int64) (done Restored, err error) {
	if r.Home, err = filepath.Abs(r.Home); err != nil {
		return done, durable.WriteError(r.Home, err)
	}
	release, err := sqlite.Lock(r.Home)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := r.checkEmpty(); err != nil {
		return done, err
	}
	dir := filepath.Join(r.Home, sqlite.RestoreFolder)
	if err := os.RemoveAll(dir); err != nil {
		return done, durable.WriteError(dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return done, durable.WriteError(dir, err)
	}
	placing := false
	defer func() {
		if !placing {
			_ = os.RemoveAll(dir) // what stays is removed by the next restore
		}
	}()
	m, err := unpack(ctx, dir, archive, size)
	if err != nil {
		return done, err
	}
	done = Restored{Files: len(m.Files), Audit: audit.Head{Entries: m.Entries, Digest: m.Head}, Created: m.Created}
	for _, f := range m.Files {
		done.Bytes += f.Size
	}
	if done.Missing, err = r.check(ctx, dir, m); err != nil {
		return done, err
	}
	placing = true
	done.Replaced, err = r.place(dir)
	return done, err
}

// checkEmpty refuses a home in which something is, unless it may be replaced.
func (r Restore) checkEmpty() error {
	entries, err := os.ReadDir(r.Home)
	if err != nil {
		return durable.WriteError(r.Home, err)
	}
	for _, e := range entries {
		if name := e.Name(); name != sqlite.LockFile && name != sqlite.RestoreFolder && !r.Replace {
			return galley.Errorf(galley.FailedPrecondition, r.Home, "is not empty: it has %s", name).
				WithRemedy("restore into another home, or add --replace, which moves aside what is there")
		}
	}
	return nil
}

// unpack puts the files of an archive into a folder, in a home's order.
func unpack(ctx context.Context, dir string, archive io.Reader, size int64) (backup.Manifest, error) {
	blobs, err := blob.Open(filepath.Join(dir, blobFolder), blob.Options{})
	if err != nil {
		return backup.Manifest{}, err
	}
	return backup.Read(ctx, archive, size, func(f backup.File, content io.Reader) error {
		switch f.Path {
		case backup.Database:
			return writeStream(filepath.Join(dir, sqlite.DatabaseFile), content)
		case backup.AuditKey:
			return writeStream(filepath.Join(dir, auditKeyFile), content)
		case backup.Tenants:
			return writeStream(filepath.Join(dir, tenantsFile), content)
		case backup.ServerCertificate, backup.ServerKey:
			if err := os.MkdirAll(filepath.Join(dir, PartnersFolder), 0o700); err != nil {
				return durable.WriteError(dir, err)
			}
			return writeStream(filepath.Join(dir, filepath.FromSlash(f.Path)), content)
		default:
			_, err := blobs.PutExpect(ctx, f.Digest, content)
			return err
		}
	})
}

// writeStream writes a new file and flushes it.
func writeStream(path string, content io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return durable.WriteError(path, err)
	}
	_, err = io.Copy(f, content)
	return durable.WriteError(path, errors.Join(err, f.Sync(), f.Close()))
}

// check opens what was unpacked, brings its schema up to date, and holds its
// log to the manifest. It returns the versions that lack files.
func (r Restore) check(ctx context.Context, dir string, m backup.Manifest) (missing []string, err error) {
	if _, err := loadAuditKey(filepath.Join(dir, auditKeyFile)); err != nil {
		return nil, err
	}
	s, err := sqlite.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.CheckIntegrity(ctx); err != nil {
		return nil, err
	}
	if err := verifyLog(ctx, s, audit.Head{Entries: m.Entries, Digest: m.Head}); err != nil {
		return nil, err
	}
	blobs, err := blob.Open(filepath.Join(dir, blobFolder), blob.Options{})
	if err != nil {
		return nil, err
	}
	if missing, err = lacking(ctx, s, blobs); err != nil {
		return nil, err
	}
	return missing, s.Record(ctx, "home", store.Commit{
		By: r.By, At: r.Clock().UTC(), Action: "home.restore", Detail: "the backup of " + m.Created.Format(time.RFC3339),
	})
}

// verifyLog checks the audit log of a store, which must go through a head.
func verifyLog(ctx context.Context, s *sqlite.Store, kept audit.Head) error {
	now, err := s.AuditHead(ctx)
	if err != nil {
		return err
	}
	v := audit.NewVerifier(kept, now)
	for {
		some, err := s.Audit(ctx, store.AuditQuery{After: v.At().Entries, Limit: store.MaxList})
		if err != nil {
			return err
		}
		for _, e := range some {
			if err := v.Add(e); err != nil {
				return err
			}
		}
		if len(some) < store.MaxList {
			return v.Finish()
		}
	}
}

// lacking lists the versions some of whose blobs are not there.
func lacking(ctx context.Context, s *sqlite.Store, blobs *blob.Store) ([]string, error) {
	var out []string
	for after := ""; ; {
		models, err := s.Models(ctx, after, store.MaxList)
		if err != nil || len(models) == 0 {
			return out, err
		}
		for _, m := range models {
			for _, summary := range m.Versions {
				v, err := s.Version(ctx, m.Name, summary.Number)
				if err != nil {
					return out, err
				}
				for _, a := range v.Artifacts {
					if _, err := blobs.Stat(a.Digest); galley.CodeOf(err) == galley.NotFound {
						out = append(out, v.Ref())
						break
					}
				}
			}
			after = m.Name
		}
	}
}

// place moves what the home has aside, and what was unpacked into its place;
// the database comes last, so that a home that was cut off has none. Tenants,
// and what partners know the server by, stay as they are if the backup does not
// have them.
func (r Restore) place(dir string) (replaced string, err error) {
	aside := []string{sqlite.DatabaseFile, sqlite.DatabaseFile + "-wal", sqlite.DatabaseFile + "-shm", auditKeyFile, blobFolder, workFolder, tempFolder}
	for _, name := range []string{tenantsFile, PartnersFolder} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			aside = append(aside, name)
		}
	}
	for _, name := range aside {
		from := filepath.Join(r.Home, name)
		if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if replaced == "" {
			replaced = filepath.Join(r.Home, "replaced-"+r.Clock().UTC().Format("20060102T150405.000"))
			if err := os.Mkdir(replaced, 0o700); err != nil {
				return "", durable.WriteError(replaced, err)
			}
		}
		if err := os.Rename(from, filepath.Join(replaced, name)); err != nil {
			return replaced, durable.WriteError(from, err)
		}
	}
	if err := durable.SyncFolder(dir); err != nil {
		return replaced, durable.WriteError(dir, err)
	}
	for _, name := range []string{blobFolder, auditKeyFile, tenantsFile, PartnersFolder, sqlite.DatabaseFile + "-wal", sqlite.DatabaseFile} {
		err := os.Rename(filepath.Join(dir, name), filepath.Join(r.Home, name))
		if errors.Is(err, fs.ErrNotExist) && (name == sqlite.DatabaseFile+"-wal" || name == tenantsFile || name == PartnersFolder) {
			continue // it was closed in order; nobody wrote any, or had partners
		}
		if err != nil {
			return replaced, durable.WriteError(filepath.Join(r.Home, name), err)
		}
		if err := durable.SyncFolder(r.Home); err != nil {
			return replaced, durable.WriteError(r.Home, err)
		}
	}
	return replaced, durable.WriteError(dir, os.RemoveAll(dir))
}
